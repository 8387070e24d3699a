"""Where the time of a train step goes, by what the operations are part of.

python -m benchmarks.profile_step --size=small --json=profile.json

The step of `benchmarks/model.py`. Shares are of the time that operations take
as JAX's profiler sees them, all threads added up; an operation counts where the
compiler says that it, or the last of those fused in it, comes from.
"""

import argparse
import collections
import re
import sys
import tempfile
from pathlib import Path

import jax

from benchmarks import model

# The first pattern found in an operation's name decides.
_PARTS = (
    ("dense layers of the blocks", r"/(qkv|proj|up|down)/"),
    ("layer norms", r"/norm\d?/"),
    ("attention products", r"bhqd,bhkd|bhqk,bhkd"),
    ("GELU", r"/erfc?$|/tanh$"),
    ("softmax, residuals, layout of the blocks", r"/encoder/block"),
    ("embedding", r"/encoder/"),
    ("decoder", r"/head/"),
    ("upsampling", r"_resize"),
    ("loss", r"jvp\(\)"),
)
_OTHER = "optimizer and the rest"
_STEPS = 5


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--size", default="small")
  parser.add_argument("--height", type=int, default=256)
  parser.add_argument("--width", type=int, default=512)
  parser.add_argument("--batch", type=int, default=2)
  parser.add_argument("--dtype", default="float32",
                      choices=["float32", "bfloat16"])
  parser.add_argument("--remat", action="store_true")
  parser.add_argument("--json", help="file for the shares")
  args = parser.parse_args()
  steps, _ = model.our_steps(args.size, args, model.make_batch(args))
  run = steps["train"]
  shares = profile(run, run.compiled.as_text())
  print(f"{jax.devices()[0].device_kind}, train step of SETR-Naive"
        f" {args.size}, {args.dtype}, {args.batch} images of"
        f" {args.height}x{args.width}")
  for part, share in sorted(shares.items(), key=lambda item: -item[1]):
    print(f"{share:6.1%}  {part}")
  if args.json:
    model.write_json(args.json, {"name": f"{args.size} train",
                                 "shares": shares})


def profile(run, text: str) -> dict[str, float]:
  """The share of each part in calls of `run`, whose HLO text is given."""
  origin = dict(re.findall(
      r'%?([\w.\-]+) = [^\n]*?metadata=\{[^}]*?op_name="([^"]*)"', text
  ))
  for _ in range(2):
    run()
  spent = collections.Counter()
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(_STEPS):
        run()
    (path,) = Path(folder).rglob("*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(path)).planes
    for plane in planes:
      for line in plane.lines:
        for event in line.events:
          name = dict(event.stats).get("hlo_op")
          if name in origin:
            spent[_part_of(origin[name])] += event.duration_ns
  total = spent.total()
  if not total:
    sys.exit("the profiler names no operations on this device")
  return {part: time / total for part, time in spent.items()}


def _part_of(name: str) -> str:
  for part, pattern in _PARTS:
    if re.search(pattern, name):
      return part
  return _OTHER


if __name__ == "__main__":
  main()
