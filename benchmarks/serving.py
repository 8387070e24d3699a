"""A server under load, beside the bare model, in one run.

python -m benchmarks.serving --json=serving.json

Starts `python -m ppseg_jax.server` on a run (one with random weights, if none
is given: how fast a model is does not depend on them) and asks it over loopback
with pictures that were encrypted before, from a process of its own
(`benchmarks.load`).

images/s: `--clients` at once, each sending its next picture when it has the
answer to its last, and the same number of images through the bare jitted model
in batches of the same sizes, in turns; the best of all rounds of each. `cpu` is
the processor time an image takes the server's process, and the model alone:
what else the machine does falls out of it, but not what clients take.
memory: the server's resident set over `--requests`, of which one in 20 is
damaged in one of several ways.
overload: pictures sent at twice the rate that was measured, whether or not
answers come; each must be answered or refused.
"""

import argparse
import collections
import io
import json
import os
import pickle
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from PIL import Image

from ppseg_jax import compiled
from ppseg_jax import config as config_checks
from ppseg_jax.configs import setr_enc
from ppseg_jax.encryption import encrypt, fresh_keys
from ppseg_jax.runs import checkpoints, workdir
from ppseg_jax.runs import model as models
from ppseg_jax.runs.workdir import Workdir
from ppseg_jax.server import served
from ppseg_jax.windows import predict_logits

_parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
_parser.add_argument("--workdir", help="a trained run")
_parser.add_argument("--model", default="tiny", help="size of a run made here")
_parser.add_argument("--height", type=int, default=240)
_parser.add_argument("--width", type=int, default=320)
_parser.add_argument("--clients", type=int, default=8)
_parser.add_argument("--batch", type=int, default=4)
_parser.add_argument("--queue", type=int, default=16)
_parser.add_argument("--rounds", type=int, default=4)
_parser.add_argument("--images", type=int, default=100, help="of a round")
_parser.add_argument("--requests", type=int, default=5000,
                     help="while memory is watched; 0: it is not")
_parser.add_argument("--seconds", type=float, default=20,
                     help="of overload; 0: none")
_parser.add_argument("--json", help="file for the figures")


def main() -> None:
  args = _parser.parse_args()
  compiled.keep()
  logging.set_verbosity(logging.FATAL)  # orbax tells what it does
  with tempfile.TemporaryDirectory() as scratch:
    folder = Path(args.workdir) if args.workdir else write_run(
        Path(scratch) / "run", args
    )
    cloud = served.load(folder)
    pictures = encrypted(cloud, args)
    with Server(folder, args) as server:
      figures = throughput(server, cloud, pictures, args)
      if args.requests:
        figures |= memory(server, pictures, args)
      if args.seconds:
        figures |= overload(server, pictures, figures["images_per_s"], args)
    figures |= {"stopped_with": server.code, **vars(args),
                "device": jax.devices()[0].device_kind,
                "cores": len(os.sched_getaffinity(0))}
  for name, value in figures.items():
    print(f"{name:<24} {value:.3f}" if isinstance(value, float)
          else f"{name:<24} {value}")
  if args.json:
    Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")


def write_run(folder: Path, args: argparse.Namespace) -> Path:
  """A run's folder with random weights."""
  config = setr_enc.get_config()
  config.data.height, config.data.width = args.height, args.width
  config.model.size = args.model
  config = config_checks.resolve(config)
  run = Workdir(folder)
  folder.mkdir()
  workdir.write_json(run.config, config.to_dict())
  model = models.make(config, models.label_space(config, folder).num_classes)
  shape = jax.ShapeDtypeStruct((1, args.height, args.width, 3), jnp.uint8)
  rng = np.random.default_rng(0)
  state = jax.tree.map(
      lambda leaf: rng.normal(0, 0.05, leaf.shape).astype(leaf.dtype),
      jax.eval_shape(model.init, jax.random.key(0), shape),
  )
  if config.optim.ema:
    state = {"ema": state}
  manager = checkpoints.open_manager(run.checkpoints, {})
  checkpoints.save(manager, 1, state)
  manager.wait_until_finished()
  manager.close()
  return folder


def encrypted(cloud: served.Served, args: argparse.Namespace) -> np.ndarray:
  """Smooth pictures with noise, each under a key, uint8 [16, H, W, 3]."""
  rng = np.random.default_rng(0)
  plain = []
  for _ in range(16):
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((args.width, args.height)), np.float32)
    noisy = smooth + rng.normal(0, 8, smooth.shape)
    plain.append(np.clip(noisy, 0, 255).astype(np.uint8))
  return np.asarray(jax.jit(
      lambda keys, images: encrypt(cloud.scheme, keys, images, cloud.block)
  )(fresh_keys(16), np.stack(plain)))


def png(pixels: np.ndarray) -> bytes:
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "PNG")
  return file.getvalue()


class Server:
  """The command, in a process of its own."""

  def __init__(self, folder: Path, args: argparse.Namespace):
    self._process = subprocess.Popen(
        [sys.executable, "-m", "ppseg_jax.server", f"--workdir={folder}",
         "--port=0", f"--sizes={args.height}x{args.width}",
         f"--batches=1,{args.batch}", f"--queue={args.queue}"],
        stdout=subprocess.PIPE, text=True,
    )
    self.code = None

  def __enter__(self) -> "Server":
    for line in self._process.stdout:
      if found := re.match(r"ready: (\S+)", line):
        self.url = found[1]
        with urllib.request.urlopen(self.url + "v1/model") as answer:
          told = json.load(answer)
        self.path = (f"/v1/segment?scheme={told['scheme']}"
                     f"&block={told['block']}")
        return self
    raise SystemExit("the server did not start.")

  def __exit__(self, *_) -> None:
    self._process.send_signal(signal.SIGTERM)
    self.code = self._process.wait(60)

  def resident(self) -> int:
    """Bytes of memory."""
    pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")

  def cpu(self) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{self._process.pid}/stat").read_text()
    ticks = fields.rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def load(kind: str, server: Server, *args) -> tuple[list, float]:
  """(answers, seconds) of a loop of `benchmarks.load`."""
  job = pickle.dumps((kind, (urlsplit(server.url).netloc, server.path, *args)))
  done = subprocess.run(
      [sys.executable, "-m", "benchmarks.load"], input=job, check=True,
      stdout=subprocess.PIPE,
  )
  return json.loads(done.stdout)


def throughput(
    server: Server, cloud: served.Served, pictures: np.ndarray, args
) -> dict:
  bare = jax.jit(lambda variables, images: predict_logits(
      cloud.model, variables, images, cloud.windows
  ).argmax(-1).astype(jnp.uint8))
  batches = [np.resize(pictures[i:], (args.batch, *pictures.shape[1:]))
             for i in range(0, len(pictures), args.batch)]
  bodies = [png(each) for each in pictures]
  bodies = (bodies * args.images)[: args.images]
  np.asarray(bare(cloud.variables, batches[0]))
  load("closed", server, bodies[:20], args.clients)
  rates, alone, cpu, cpu_alone, seconds = [], [], [], [], []
  for _ in range(args.rounds):
    busy = server.cpu()
    answers, wall = load("closed", server, bodies, args.clients)
    assert {status for status, _ in answers} == {200}
    cpu.append((server.cpu() - busy) / len(bodies))
    rates.append(len(bodies) / wall)
    seconds += [took for _, took in answers]
    start, busy = time.perf_counter(), time.process_time()
    count = max(1, args.images // args.batch)
    for i in range(count):
      np.asarray(bare(cloud.variables, batches[i % len(batches)]))
    alone.append(count * args.batch / (time.perf_counter() - start))
    cpu_alone.append(
        (time.process_time() - busy) / (count * args.batch)
    )
  seconds = np.sort(seconds)
  return {
      "images_per_s": max(rates), "bare_images_per_s": max(alone),
      "of_bare": max(rates) / max(alone),
      "of_bare_median": statistics.median(rates) / statistics.median(alone),
      "cpu_ms": 1e3 * min(cpu), "bare_cpu_ms": 1e3 * min(cpu_alone),
      "of_bare_by_cpu": min(cpu_alone) / min(cpu),
      "p50_ms": 1e3 * float(np.quantile(seconds, 0.5)),
      "p99_ms": 1e3 * float(np.quantile(seconds, 0.99)),
  }


def memory(server: Server, pictures: np.ndarray, args) -> dict:
  good = [png(each) for each in pictures]
  some = good[0]
  bad = [some[: len(some) // 2], some[:40], b"", b"x" * 10_000,
         some[:99] + b"\0" + some[100:], some[:16] + b"\x7f" + some[17:]]
  bodies, seen, statuses = [], [], collections.Counter()
  for i in range(args.requests):
    bodies.append(bad[i // 20 % len(bad)] if i % 20 == 19 else good[i % 16])
  part = -(-args.requests // 20)
  for i in range(0, args.requests, part):
    answers, _ = load("closed", server, bodies[i : i + part], args.clients)
    statuses.update(status for status, _ in answers)
    seen.append(server.resident() / 2**20)
  # The first tenth brings the allocator to its working size.
  return {
      "answers": dict(statuses), "memory_mb": seen[-1],
      "memory_growth": max(seen[2:]) / seen[1] - 1 if len(seen) > 2 else 0.0,
      "memory_mb_each": [round(each) for each in seen],
  }


def overload(
    server: Server, pictures: np.ndarray, rate: float, args
) -> dict:
  answers, _ = load("at_rate", server, [png(each) for each in pictures],
                    2 * rate, args.seconds)
  statuses = collections.Counter(status for status, _ in answers)
  served_in = [took for status, took in answers if status == 200]
  return {
      "overload_sent": len(answers), "overload_answered": statuses[200],
      "overload_refused": statuses[503],
      "overload_lost": len(answers) - statuses[200] - statuses[503],
      "overload_p99_ms": 1e3 * float(np.quantile(served_in, 0.99)),
  }


if __name__ == "__main__":
  main()
