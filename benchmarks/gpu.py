"""What this project says about a GPU, measured in pieces.

benchmarks/gpu.sh OUT [PIECE...] [--camvid=DIR]

Each piece is a function here and takes less than 8 minutes on an H100 (so is
the plan; none was run on one yet). It leaves OUT/PIECE.json, and is skipped
where that is there. `--small` is a size that a CPU manages, to see that all of
it works; its figures say nothing.

  numerics    on the device: the known answers of encryption, canonical forms
              beside NumPy's and the CPU's, loss and gradient of one step beside
              the CPU's, in float32 and bfloat16 (there cuDNN's attention)
  encryption  every scheme on pictures of 1024x2048, beside a copy on the
              device; goal: half of the copy's rate
  recipe      the train step of configs/setr_enc.py:cityscapes as it is:
              images/s, which is what the input must bring, and the shares of it
              that encryption (a permutation of each block) and canonical forms
              take
  setr_l      SETR-L at 768x768, plain images, bfloat16: images/s, and the share
              of the card's matrix rate; goal: 45 %
  pytorch     the same in PyTorch, eager and compiled; goal: to be slower. Says
              why it is skipped without torch and timm
  memory      of that step with and without rematerialisation
  camvid      SETR-S trained on CamVid at 352x480, from --camvid
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from benchmarks import model
from ppseg_jax import config as config_checks
from ppseg_jax import optim, train
from ppseg_jax.configs import setr_enc
from ppseg_jax.encryption import SCHEMES, canonical, encrypt, fresh_keys
from ppseg_jax.encryption.keys import IMPL, TRAIN
from ppseg_jax.errors import UserError
from ppseg_jax.models.embed import block_tokens
from ppseg_jax.runs import keys
from ppseg_jax.runs import model as models
from ppseg_jax.runs.start import make_init, on_host

_FEW = ["blockwise", "plain"]  # schemes of --small
_ROOT = Path(__file__).parent.parent
# Dense bfloat16 FLOP/s by the data sheets; the first name that is part of the
# device's decides.
_PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}


def numerics(args: Namespace) -> dict:
  names = _FEW if args.small else list(SCHEMES)
  wrong = [*_unlike_vectors(names), *_unlike_forms(names, args)]
  steps = _losses(args)
  reference = steps.pop("cpu float32")
  for name, found in steps.items():
    # Rounding alone: a float32 product of a GPU has 11 bits unless it is asked
    # for more, bfloat16 has 8.
    limit = 1e-4 if name.endswith("highest") else 5e-2
    for value, right in zip(found.values(), reference.values(), strict=True):
      if not abs(value / right - 1) <= limit:
        wrong.append(f"step: {name}")
  return {"wrong": wrong, "cpu float32": reference, **steps}


def _unlike_vectors(names: list[str]) -> list[str]:
  """Schemes whose ciphertext is not the one checked in."""
  path = _ROOT / "tests" / "encryption" / "vectors.json"
  known = json.loads(path.read_text())
  image = np.frombuffer(bytes.fromhex(known["image"]), np.uint8)
  image = image.reshape(known["shape"])
  key = jax.random.wrap_key_data(np.array(known["key"], np.uint32), impl=IMPL)
  return [
      f"known answer: {name}" for name in names
      if np.asarray(encrypt(name, key, image, known["block"])).tobytes().hex()
      != known["ciphertexts"][name]
  ]


def _unlike_forms(names: list[str], args: Namespace) -> list[str]:
  """Schemes whose canonical form is not the CPU's, or not NumPy's."""
  size, block = (32, 8) if args.small else (256, 16)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (2, size, size, 3)).astype(np.uint8)
  side = size // block
  blocks = images.reshape(2, side, block, side, block, 3)
  blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(2, side**2, -1, 3)
  wrong = []
  for name, expected in (
      ("blockwise", np.sort(blocks, axis=2).reshape(2, side**2, -1)),
      ("blockwise_value", np.sort(blocks.reshape(2, side**2, -1), axis=2)),
  ):
    if not np.array_equal(canonical(name, images, block), expected):
      wrong.append(f"canonical form beside NumPy's: {name}")
  if jax.default_backend() == "cpu":
    return wrong
  for name in names:
    try:
      here = np.asarray(canonical(name, images, block))
    except UserError:  # it has none
      continue
    with jax.default_device(jax.devices("cpu")[0]):
      if not np.array_equal(canonical(name, images, block), here):
        wrong.append(f"canonical form beside the CPU's: {name}")
  return wrong


def _losses(args: Namespace) -> dict[str, dict[str, float]]:
  """Loss and norm of the gradient of a first step, by device and precision."""
  side, size = (32, "demo") if args.small else (256, "small")

  def step(dtype, device, precision=None):
    config = _recipe(size, (side, side), (side, side), 2, 8, dtype)
    with jax.default_device(device), jax.default_matmul_precision(precision):
      state, update, batch = _step(config)
      _, measures = jax.jit(update)(state, batch)
      return {name: float(measures[name]) for name in ("loss", "grad_norm")}

  here, cpu = jax.devices()[0], jax.devices("cpu")[0]
  return {
      "cpu float32": step("float32", cpu),
      "float32 highest": step("float32", here, "highest"),
      "float32": step("float32", here),
      "bfloat16": step("bfloat16", here),
  }


def _recipe(
    size: str, image: tuple[int, int], crop: tuple[int, int], batch: int,
    block: int, dtype: str = "bfloat16",
) -> ml_collections.ConfigDict:
  """The experiment on Cityscapes at another size, resolved."""
  config = setr_enc.get_config("cityscapes")
  config.batch_size, config.block = batch, block
  config.model.update(size=size, dtype=dtype)
  config.data.update(height=image[0], width=image[1], crop_height=crop[0],
                     crop_width=crop[1])
  config.eval.stride = 0
  return config_checks.resolve(config)


def _step(config: ml_collections.ConfigDict) -> tuple[dict, Callable, dict]:
  """(state, train step, batch of random images) of a config."""
  net = models.make(config, 19)
  optimizer = optim.make_optimizer(config.optim, config.steps)
  state = jax.device_put(on_host(make_init(config, net, optimizer)))
  rng = np.random.default_rng(0)
  batch, data = config.batch_size, config.data
  shape = (batch, data.height, data.width)
  return state, train.make_update(config, net, optimizer), jax.device_put({
      "image": rng.integers(0, 256, (*shape, 3)).astype(np.uint8),
      "label": rng.integers(0, 19, shape).astype(np.uint8),
      "index": np.arange(batch, dtype=np.int32),
      "epoch": np.zeros(batch, np.int32),
      "window": np.zeros((batch, 3), np.int32),
  })


def encryption(args: Namespace) -> dict:
  count, height, width = (1, 32, 64) if args.small else (8, 1024, 2048)
  names = _FEW if args.small else list(SCHEMES)
  images = jnp.zeros((count, height, width, 3), jnp.uint8)
  moved = 2 * images.nbytes  # read and written
  copy = seconds(jax.jit(lambda x: x ^ 255), images)
  rows = {}
  for name in names:
    run = jax.jit(lambda k, x, s=name: encrypt(s, k, x, 16))
    taken = seconds(run, fresh_keys(count), images)
    rows[name] = {"ms_per_image": 1e3 * taken / count,
                  "of_copy_rate": copy / taken}
  return {"images": list(images.shape), "copy_gb_per_s": moved / copy / 1e9,
          "goal_of_copy_rate": 0.5, "schemes": rows}


def recipe(args: Namespace) -> dict:
  config = (
      _recipe("demo", (64, 64), (32, 32), 2, 8) if args.small else
      _recipe("large", (1024, 2048), (768, 768), 8, 16)
  )
  state, update, batch = _step(config)
  update = jax.jit(update, donate_argnums=0).lower(state, batch).compile()

  def step():
    nonlocal state
    state, measures = update(state, batch)
    return measures

  whole = seconds(step)
  clients, data = keys.of_training(config), config.data
  enciphered = seconds(jax.jit(lambda x: clients.encrypt(x, TRAIN)), batch)
  crops = batch["image"][:, : data.crop_height, : data.crop_width]
  form = seconds(jax.jit(lambda x: block_tokens(
      x, config.model.patch, config.model.form, config.block
  )), crops)
  return {
      "images_per_s": config.batch_size / whole, "step_ms": 1e3 * whole,
      "encryption_ms": 1e3 * enciphered, "of_step_encryption":
      enciphered / whole, "form_ms": 1e3 * form, "of_step_form": form / whole,
      "planned_mb": update.memory_analysis().temp_size_in_bytes / 1e6,
  }


def _like(args: Namespace, remat: bool = False) -> tuple[str, Namespace]:
  """Size and arguments for `benchmarks.model`."""
  size, side, batch = ("demo", 32, 2) if args.small else ("large", 768, 8)
  return size, Namespace(batch=batch, height=side, width=side, remat=remat,
                         dtype="bfloat16", no_compile=args.small)


def setr_l(args: Namespace) -> dict:
  size, like = _like(args)
  steps, flop = model.our_steps(size, like, model.make_batch(like))
  kind = jax.devices()[0].device_kind
  peak = next((v for name, v in _PEAKS.items()
               if all(part in kind for part in name.split())), None)
  product = model.matmul_rate("bfloat16")
  found = {"matmul_tflop_per_s": product / 1e12, "goal_of_peak": 0.45,
           "peak_tflop_per_s": peak and peak / 1e12}
  for name, run in steps.items():
    taken = seconds(run)
    rate = flop[name] / taken
    found[name] = {
        "ms": 1e3 * taken, "images_per_s": like.batch / taken,
        "tflop_per_s": rate / 1e12, "of_matmul": rate / product,
        "of_peak": peak and rate / peak, "planned_mb": run.peak / 1e6,
    }
  return found


def pytorch(args: Namespace) -> dict:
  size, like = _like(args)
  try:
    import timm  # noqa: F401
    import torch
  except ImportError as error:
    return {"skipped": f"{error.name} cannot be imported"}
  if jax.default_backend() != "cpu" and not torch.cuda.is_available():
    return {"skipped": "this torch sees no GPU"}
  found = {}
  for kind, runs in model.torch_steps(
      size, like, model.make_batch(like)
  ).items():
    found[kind] = {
        name: {"ms": 1e3 * (taken := seconds(run)),
               "images_per_s": like.batch / taken}
        for name, run in runs.items()
    }
  ours = Path(args.out) / "setr_l.json"
  if ours.exists():
    best = min(runs["train"]["ms"] for runs in found.values())
    mine = json.loads(ours.read_text())["train"]["ms"]
    found["ours_over_faster_of_theirs"] = mine / best
  return found


def memory(args: Namespace) -> dict:
  found = {}
  for name, remat in (("with", True), ("without", False)):
    size, like = _like(args, remat)
    steps, _ = model.our_steps(size, like, model.make_batch(like))
    steps["train"]()
    # Of the process so far: the lesser need comes first.
    stats = jax.devices()[0].memory_stats() or {}
    found[name] = {
        "planned_mb": steps["train"].peak / 1e6,
        "peak_mb": stats.get("peak_bytes_in_use", 0) / 1e6 or None,
        "ms": 1e3 * seconds(steps["train"]),
    }
    del steps
  return found


def camvid(args: Namespace) -> dict:
  if not args.camvid:
    return {"skipped": "no --camvid=DIR is given"}
  folder = Path(args.out) / "camvid"
  fields = {
      "data.dir": Path(args.camvid).resolve(), "data.height": 352,
      "data.width": 480, "model.size": "small", "model.dtype": "bfloat16",
      "steps": 2000, "batch_size": 16, "eval.every": 1000,
      "checkpoint_every": 200,
  }
  if args.small:
    fields |= {"data.height": 32, "data.width": 48, "model.size": "demo",
               "steps": 4, "batch_size": 4, "log_every": 2, "panels": 1}
  done = subprocess.run(
      [sys.executable, "-m", "ppseg_jax.main",
       "--config=configs/setr_enc.py:camvid", f"--workdir={folder.resolve()}",
       *(f"--config.{name}={value}" for name, value in fields.items())],
      cwd=_ROOT, text=True, stdout=subprocess.PIPE,
  )
  if done.returncode:
    sys.exit(f"camvid: the training ended with {done.returncode}; its output"
             f" was:\n{done.stdout}")
  result = json.loads((folder / "result.json").read_text())
  speeds = re.findall(r"([\d.]+) images/s", done.stdout)
  return {
      "miou": result["miou"], "pixel_accuracy": result["pixel_accuracy"],
      "images_per_s": float(speeds[-1]) if speeds else None,
      "fields": {name: str(value) for name, value in fields.items()},
  }


PIECES = {piece.__name__: piece for piece in (
    numerics, encryption, recipe, setr_l, pytorch, memory, camvid,
)}


def seconds(run: Callable, *inputs) -> float:
  """Of one call: the least of 3 times that 5 follow each other take."""
  jax.block_until_ready(run(*inputs))
  times = []
  for _ in range(3):
    start = time.perf_counter()
    for _ in range(5):
      result = run(*inputs)
    jax.block_until_ready(result)
    times.append((time.perf_counter() - start) / 5)
  return min(times)


def main(words: list[str] | None = None) -> int:
  """Runs a piece; 1 where it found something wrong."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("out", help="folder of the JSON files")
  parser.add_argument("piece", choices=PIECES)
  parser.add_argument("--small", action="store_true")
  parser.add_argument("--camvid", help="folder of the data set")
  args = parser.parse_args(words)
  # Else jax takes most of the memory, and PyTorch finds too little.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  start = time.perf_counter()
  found = PIECES[args.piece](args)
  if "skipped" in found:
    print(f"{args.piece}: skipped, since {found['skipped']}")
    return 0
  found = {
      "device": jax.devices()[0].device_kind, "small": args.small,
      "versions": model.libraries(), **found,
      "seconds": time.perf_counter() - start,
  }
  model.write_json(str(Path(args.out) / f"{args.piece}.json"), found)
  print(json.dumps(found, indent=2))
  return 1 if found.get("wrong") else 0


if __name__ == "__main__":
  sys.exit(main())
