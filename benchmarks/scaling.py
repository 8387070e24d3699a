"""What SETR-L at 768x768 needs on 1 to 256 devices, and how it should scale.

python -m benchmarks.scaling --out=runs/scaling

The train step of `configs/setr_plain.py:cityscapes` (SETR-Naive-L, auxiliary
heads, bfloat16, blocks recomputed, SGD) is lowered and compiled ahead of time
for meshes of simulated CPU devices, from shapes alone: nothing is allocated and
nothing is run. Of that come, for each device, the bytes of parameters and
optimizer state (the shards' sizes), of temporaries (the compiler's plan), FLOP
(the compiler's count), and the collectives with their bytes (read from the
partitioned program). Each mesh is compiled with two numbers of layers, and
figures for 24 are on the straight line through them; `--check` compiles all 24
on 8 devices and says how far off the line is. Where images a device stay the
same, a longer `data` axis changes nothing but the devices of a group, so that
such meshes are compiled once (see `compiled_as`), 256 devices not at all. What
is compiled is kept in --out, and the same command goes on.

Encryption is left out: it stays within a device, but for one bit that all
devices agree on at each turn of a loop that seldom turns twice. Temporaries are
a CPU's: it computes bfloat16 in float32 and has no fused attention, so that
scores of one layer are kept, 340 MB an image. On a GPU they should be fewer;
that was not measured.

The expected efficiency is a model, and no measurement:

  compute   FLOP of a device / (share x peak), the share being assumed, not
            known (--share, 0.45 is what we aim at)
  sending   bytes / rate, summed over the collectives; on a ring of g devices
            2(g-1)/g of an all-reduce's bytes pass through each, (g-1)/g of an
            all-gather's, reduce-scatter's or all-to-all's, and all of a
            permute's. The rate is that of the node's links for devices of one
            node, else `far` times the devices of the group in a node, up to the
            former. No latency, no congestion.
  bounds    no overlap: compute + sending; full overlap: the longer of the two
  efficiency  time that one device needs for its share of the images, by its own
            FLOP count, / time of the step

Input, memory-bound work and checkpoints are left out. Rates are of public data
sheets: H100 SXM 989 TFLOP/s, NVLink 450 GB/s one way between 8, 50 GB/s (400
Gbit/s) a GPU between nodes; TPU v5p 459 TFLOP/s and 1200 GB/s of links, both
ways together, in three axes, of which a collective is taken to use one, in both
directions: 200 GB/s one way, however many chips.

`python -m benchmarks.processes` measures what little one machine can show.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from benchmarks import hlo
from ppseg_jax import config as config_checks
from ppseg_jax import files, optim, sharding, train
from ppseg_jax.configs import setr_plain
from ppseg_jax.models.vit import SIZES
from ppseg_jax.runs import model as models
from ppseg_jax.runs.start import make_init

_DEPTH = 24
_CLASSES = 19
_OPTIONS = {
    # Most of the time would go into machine code that nobody runs.
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    # On a CPU alone these barriers go before operations are put in order, so
    # that what rematerialisation recomputes is computed at once, and kept.
    "xla_disable_hlo_passes": "cse_barrier_expander",
}
_PARTITIONED = "spmd-partitioning"  # the pass, as dumped modules are called


@dataclasses.dataclass(frozen=True)
class Chip:
  """Rates of a chip: FLOP/s, bytes/s one way in a node and beyond, bytes."""

  peak: float
  near: float
  far: float
  node: int
  memory: float


CHIPS = {
    "H100": Chip(989e12, 450e9, 50e9, 8, 80e9),
    "TPU v5p": Chip(459e12, 200e9, 200e9, 8, 95 * 2**30),
}

Case = tuple[tuple[int, int, int], int]  # mesh (data, fsdp, model), images


def cases(each: int, batch: int) -> dict[str, list[Case]]:
  """The rows of the tables: `each` images a device, and `batch` in all."""
  meshes = ((1, 1, 1), (8, 1, 1), (1, 8, 1), (16, 1, 1), (2, 8, 1), (64, 1, 1),
            (8, 8, 1), (1, 64, 1), (256, 1, 1), (32, 8, 1))
  weak = [(mesh, each * math.prod(mesh)) for mesh in meshes]
  strong = [(mesh, batch) for mesh in (
      (8, 1, 1), (1, 8, 1), (8, 1, 2), (8, 1, 8), (1, 8, 8),
  ) if batch % (mesh[0] * mesh[1]) == 0]
  return {f"{each} images a device": weak, f"{batch} images in all": strong}


def compiled_as(case: Case) -> Case:
  """A case of as many images a device, of which the programs are the same."""
  (data, fsdp, model), batch = case
  if data == 1 or model > 1:
    return case
  return (8, fsdp, model), batch // data * 8


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--out", required=True, help="folder, also to go on in")
  parser.add_argument("--each", type=int, default=8, help="images a device")
  parser.add_argument("--batch", type=int, default=8, help="images in all")
  parser.add_argument("--depths", default="4,6", help="layers, two numbers")
  parser.add_argument("--check", action="store_true")
  parser.add_argument("--share", type=float, default=0.45, help="of the peak")
  for field in ("peak", "near", "far"):
    parser.add_argument(f"--{field}", type=float, help="in place of a sheet's")
  parser.add_argument("--node", type=int, help="devices of a node")
  args = parser.parse_args()
  out = Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", 64)
  jax.config.update("jax_enable_compilation_cache", False)  # it dumps nothing
  given = {name: getattr(args, name) for name in ("peak", "near", "far", "node")
           if getattr(args, name) is not None}
  chips = {name: dataclasses.replace(chip, **given)
           for name, chip in CHIPS.items()}
  low, high = (int(depth) for depth in args.depths.split(","))

  def whole(case: Case) -> dict:
    like = compiled_as(case)
    row = extrapolated(kept(out, like, low), kept(out, like, high), _DEPTH)
    return stretched(row, case)

  every = cases(args.each, args.batch)
  one = whole(((1, 1, 1), args.each))
  per_image = one["flops"] / args.each
  for title, found in every.items():
    rows = [whole(case) for case in found]
    print(f"\n{title}\n")
    print(*table(rows, per_image, chips, args.share), sep="\n", flush=True)
  if args.check:
    case = ((1, 8, 1), args.each * 8)
    print("", *compared(whole(case), kept(out, case, _DEPTH)), sep="\n")


def kept(out: Path, case: Case, depth: int) -> dict:
  """What `compiled` says, from the file if it was asked before."""
  mesh, batch = case
  name = "-".join(map(str, (*mesh, batch, depth)))
  path = out / f"step-{name}.json"
  if not path.exists():
    print(f"compiling {depth} layers for data={mesh[0]} fsdp={mesh[1]}"
          f" model={mesh[2]}, {batch} images", file=sys.stderr, flush=True)
    files.write_text(path, json.dumps(compiled(case, depth)) + "\n")
  return json.loads(path.read_text())


def compiled(case: Case, depth: int, crop: int = 768) -> dict:
  """Bytes, FLOP and collectives of one device in one step."""
  (data, fsdp, model), batch = case
  devices = jax.devices()[: data * fsdp * model]
  mesh = jax.make_mesh((data, fsdp, model), sharding.AXES, devices=devices,
                       axis_types=(AxisType.Auto,) * 3)
  with layers(depth):
    update, state, shapes = abstract_step(mesh, batch, crop)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
      program = update.lower(state, shapes).compile(_OPTIONS | {
          "xla_dump_to": folder, "xla_dump_hlo_pass_re": _PARTITIONED,
          "xla_dump_hlo_as_text": True,
      })
      (text,) = (path.read_text() for path in Path(folder).glob(
          f"*jit_update*after_{_PARTITIONED}*.txt"
      )) if len(devices) > 1 else ("",)
  return {
      "mesh": [data, fsdp, model], "batch": batch, "depth": depth,
      "parameters": held(state["params"]),
      "optimizer": held(state["opt_state"]),
      "temporaries": program.memory_analysis().temp_size_in_bytes,
      "flops": program.cost_analysis()["flops"],
      "collectives": [c._asdict() for c in hlo.collectives(text)],
      "seconds": time.perf_counter() - start,
  }


@contextlib.contextmanager
def layers(depth: int) -> Iterator[None]:
  """SETR-L with that many of them."""
  large = SIZES["large"]
  SIZES["large"] = large._replace(depth=depth)
  try:
    yield
  finally:
    SIZES["large"] = large


def abstract_step(mesh: Mesh, batch: int, crop: int) -> tuple:
  """(the jitted train step, its state, its batch), the latter two as shapes."""
  config = setr_plain.get_config("cityscapes")
  config.batch_size = batch
  config.data.update(crop_height=crop, crop_width=crop)
  config.eval.stride = 0
  config = config_checks.resolve(config)
  model = models.make(config, _CLASSES)
  optimizer = optim.make_optimizer(config.optim, config.steps)
  state = sharding.abstract_on(mesh, make_init(config, model, optimizer))
  places = jax.tree.map(lambda leaf: leaf.sharding, state)
  rows = sharding.batch_sharding(mesh)
  shapes = {
      "image": ((batch, crop, crop, 3), jnp.uint8),
      "label": ((batch, crop, crop), jnp.uint8),
      "index": ((batch,), jnp.int32), "epoch": ((batch,), jnp.int32),
  }
  update = jax.jit(
      train.make_update(config, model, optimizer), donate_argnums=0,
      in_shardings=(places, rows),
      out_shardings=(places, sharding.replicated(mesh)),
  )
  return update, state, {
      name: jax.ShapeDtypeStruct(shape, dtype, sharding=rows)
      for name, (shape, dtype) in shapes.items()
  }


def held(tree: dict) -> int:
  """Bytes that one device holds of a tree of shapes."""
  return sum(
      math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
      for leaf in jax.tree.leaves(tree)
  )


def extrapolated(low: dict, high: dict, depth: int) -> dict:
  """Figures for `depth` layers, on the line through those for two others."""
  share = (depth - low["depth"]) / (high["depth"] - low["depth"])

  def line(a: float, b: float) -> float:
    return a + share * (b - a)

  names = ("parameters", "optimizer", "temporaries", "flops")
  kinds = {(c["kind"], tuple(c["group"])): [c, c]
           for c in low["collectives"]}
  for c in high["collectives"]:
    key = c["kind"], tuple(c["group"])
    none = c | {"bytes": 0.0, "count": 0.0}
    kinds[key] = [kinds.get(key, [none])[0], c]
  return {
      "mesh": low["mesh"], "batch": low["batch"], "depth": depth,
      **{name: line(low[name], high[name]) for name in names},
      "collectives": [
          a | {name: line(a[name], b[name]) for name in ("bytes", "count")}
          for a, b in kinds.values()
      ],
  }


def stretched(row: dict, case: Case) -> dict:
  """The same with another number of devices along `data`."""
  (data, fsdp, model), batch = case
  old = tuple(row["mesh"])
  if old == (data, fsdp, model):
    return row

  def group(devices: list[int]) -> list[int]:
    at = np.stack(np.unravel_index(devices, old), -1)  # [devices, 3]
    if len(set(at[:, 0])) == 1:
      return devices
    others = sorted({(f, m) for _, f, m in at.tolist()})
    return [(d * fsdp + f) * model + m for d in range(data) for f, m in others]

  return row | {
      "mesh": [data, fsdp, model], "batch": batch,
      "collectives": [c | {"group": group(c["group"])}
                      for c in row["collectives"]],
  }


def sending(row: dict, chip: Chip) -> float:
  """Seconds that a device's collectives take one after another."""
  seconds = 0.0
  for c in row["collectives"]:
    group = c["group"]
    size = len(group)
    nodes = {device // chip.node for device in group}
    if len(nodes) == 1:
      rate = chip.near
    else:
      rate = min(chip.near, chip.far * size / len(nodes))
    passes = {"all-reduce": 2 * (size - 1) / size, "collective-permute": 1}
    seconds += c["bytes"] * passes.get(c["kind"], (size - 1) / size) / rate
  return seconds


def efficiency(
    row: dict, per_image: float, chip: Chip, share: float
) -> tuple[float, float]:
  """Without and with full overlap, 1 for what one device does alone."""
  rate = share * chip.peak
  ideal = per_image * row["batch"] / math.prod(row["mesh"]) / rate
  compute, send = row["flops"] / rate, sending(row, chip)
  return ideal / (compute + send), ideal / max(compute, send)


def table(
    rows: list[dict], per_image: float, chips: dict[str, Chip], share: float
) -> list[str]:
  """Markdown; of each number of devices the best mesh is bold.

  That is the one of the highest efficiency without overlap on the first chip,
  among those that fit in its memory as planned here.
  """
  first = next(iter(chips.values()))

  def rank(row: dict) -> tuple:
    fits = needed(row) <= first.memory
    return fits, efficiency(row, per_image, first, share)[0]

  best = {}
  for row in rows:
    devices = math.prod(row["mesh"])
    if devices not in best or rank(row) > rank(best[devices]):
      best[devices] = row
  names = " | ".join(f"{name}, none to full overlap" for name in chips)
  lines = [
      "| devices | data x fsdp x model | parameters, MB | optimizer, MB |"
      " temporaries, MB | TFLOP | all-reduce, MB | all-gather, MB |"
      f" reduce-scatter, MB | {names} |",
      "|" + "---|" * (9 + len(chips)),
  ]
  for row in rows:
    devices = math.prod(row["mesh"])
    mesh = " x ".join(map(str, row["mesh"]))
    if row is best[devices]:
      mesh = f"**{mesh}**"
    sent = {
        kind: sum(c["bytes"] for c in row["collectives"] if c["kind"] == kind)
        for kind in ("all-reduce", "all-gather", "reduce-scatter")
    }
    if other := {c["kind"] for c in row["collectives"]} - sent.keys():
      print(f"not in the table, but counted: {', '.join(sorted(other))}",
            file=sys.stderr)
    megabytes = [
        row["parameters"], row["optimizer"], row["temporaries"], *sent.values()
    ]
    cells = [f"{value / 1e6:.0f}" for value in megabytes]
    cells.insert(3, f"{row['flops'] / 1e12:.1f}")
    cells += [
        "{:.2f} to {:.2f}".format(*efficiency(row, per_image, chip, share))
        for chip in chips.values()
    ]
    lines.append(f"| {devices} | {mesh} | {' | '.join(cells)} |")
  return lines


def needed(row: dict) -> float:
  """Bytes a device: state and temporaries."""
  return row["parameters"] + row["optimizer"] + row["temporaries"]


def compared(line: dict, whole: dict) -> list[str]:
  """How far figures on the line are from those of all layers."""
  def sent(row):
    return sum(c["bytes"] for c in row["collectives"])

  values = {name: (line[name], whole[name]) for name in
            ("parameters", "optimizer", "temporaries", "flops")}
  values["collectives"] = sent(line), sent(whole)
  return [
      f"all {whole['depth']} layers, compiled: {name} {b:.6g}, on the line"
      f" {a:.6g} ({a / b - 1:+.2%})" for name, (a, b) in values.items()
  ]


if __name__ == "__main__":
  main()
