"""SETR-Naive here and in PyTorch: forward and train step, in one run.

python -m benchmarks.model --json=model.json
python -m benchmarks.model --sizes=large --height=768 --width=768 --batch=8 \
    --dtype=bfloat16 --json=model.json

The train step is that of `ppseg_jax.train`, with SGD, on plain images. Beside
it stands the same architecture in PyTorch, timm's ViT under a transcription of
the Naive head, eager and through torch.compile; without torch and timm those
columns stay empty. All take turns, step by step, on the same cores, so that
whatever else the machine does falls on all of them alike. A time is the
shortest of all rounds; `ratio_torch` is ours over the faster of theirs, and
`cpu` the same of the processor time used (medians), which a busy machine
disturbs least; with more than one thread it counts PyTorch's threads that spin
while they wait, so use --threads=1 for it. FLOP are XLA's count for the float32
step without rematerialisation, and `matmul` is the rate of one large matrix
product here. Peak memory is that of the step beyond parameters and inputs: for
ours what the compiler plans; for PyTorch what its allocator says on a GPU, and
on a CPU the growth of the process, which misses what it had kept from before.
"""

import argparse
import gc
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

_parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
_parser.add_argument("--json", help="file for the rows")
_parser.add_argument("--sizes", default="tiny,small")
_parser.add_argument("--height", type=int, default=256)
_parser.add_argument("--width", type=int, default=512)
_parser.add_argument("--batch", type=int, default=2)
_parser.add_argument("--dtype", default="float32",
                     choices=["float32", "bfloat16"])
_parser.add_argument("--remat", action="store_true")
_parser.add_argument("--rounds", type=int, default=15)
_parser.add_argument("--threads", type=int, default=0,
                     help="cores for both, 0 for all")
_parser.add_argument("--no-compile", action="store_true",
                     help="leave torch.compile out")
_CLASSES = 19


def main() -> None:
  args = _parser.parse_args()
  if args.threads:  # before JAX counts them
    cores = sorted(os.sched_getaffinity(0))[: args.threads]
    os.sched_setaffinity(0, cores)

  import jax

  batch = make_batch(args)
  rate = matmul_rate(args.dtype)
  print(f"{jax.devices()[0].device_kind}, {len(os.sched_getaffinity(0))}"
        f" core(s), {args.dtype}, {args.batch} images of"
        f" {args.height}x{args.width},"
        f" matmul {rate / 1e9:.0f} GFLOP/s; {libraries()}")
  print(f"{'':16}{'ms':>8}{'images/s':>10}{'GFLOP/s':>9}{'of matmul':>10}"
        f"{'peak MB':>9}{'eager':>8}{'compile':>8}{'ratio':>7}{'cpu':>7}")
  rows = []
  for size in args.sizes.split(","):
    ours, flops = our_steps(size, args, batch)
    theirs = torch_steps(size, args, batch)
    for kind in ("forward", "train"):
      runs = {"jax": ours[kind], **{k: v[kind] for k, v in theirs.items()}}
      row = measure(f"{size} {kind}", runs, flops[kind], rate, args)
      rows.append({**row, "batch": args.batch, "height": args.height,
                   "width": args.width, "dtype": args.dtype})
      print(table_line(row), flush=True)
    del ours, theirs
    gc.collect()
  if args.json:
    write_json(args.json, rows)


def write_json(path: str, value: list | dict) -> None:
  from ppseg_jax import files

  files.write_text(Path(path), json.dumps(value, indent=2) + "\n")


def make_batch(args) -> dict:
  """Random images and labels, as the train step takes them."""
  import numpy as np

  rng = np.random.default_rng(0)
  shape = (args.batch, args.height, args.width)
  return {
      "image": rng.integers(0, 256, (*shape, 3)).astype(np.uint8),
      "label": rng.integers(0, _CLASSES, shape).astype(np.uint8),
      "index": np.arange(args.batch, dtype=np.int32),
      "epoch": np.zeros(args.batch, np.int32),
  }


def libraries() -> str:
  import importlib.metadata as meta

  found = []
  for name in ("jax", "flax", "torch", "timm"):
    try:
      found.append(f"{name} {meta.version(name)}")
    except meta.PackageNotFoundError:
      found.append(f"no {name}")
  return ", ".join(found)


def matmul_rate(dtype: str) -> float:
  """FLOP/s of a large square matrix product."""
  import jax
  import jax.numpy as jnp

  n = 2048 if jax.default_backend() == "cpu" else 8192
  x = jnp.ones((n, n), dtype)
  product = jax.jit(jnp.matmul)
  product(x, x).block_until_ready()
  times = []
  for _ in range(10):
    start = time.perf_counter()
    product(x, x).block_until_ready()
    times.append(time.perf_counter() - start)
  return 2 * n**3 / min(times)


def our_steps(size: str, args, batch: dict) -> tuple[dict, dict]:
  """({forward, train: () -> None}, {forward, train: FLOP})."""
  import jax

  from ppseg_jax import config as config_checks
  from ppseg_jax import optim, train
  from ppseg_jax.configs import setr_plain
  from ppseg_jax.runs import model as models
  from ppseg_jax.runs.start import make_init

  def make(dtype, remat):
    config = setr_plain.get_config()
    config.block, config.batch_size = 16, args.batch
    config.data.height, config.data.width = args.height, args.width
    config.model.update(size=size, dtype=dtype, remat=remat)
    config.optim.update(name="sgd", lr=0.01, schedule="poly", warmup=0,
                        weight_decay=0.0, clip=0.0)
    config = config_checks.resolve(config)
    model = models.make(config, _CLASSES)
    optimizer = optim.make_optimizer(config.optim, 1000)
    return (make_init(config, model, optimizer), jax.jit(model.apply),
            jax.jit(train.make_update(config, model, optimizer),
                    donate_argnums=0))

  init, forward, update = make("float32", False)
  abstract = jax.eval_shape(init)
  flops = {
      "forward": flop(forward, models.variables_of(abstract), batch["image"]),
      "train": flop(update, abstract, batch),
  }
  init, forward, update = make(args.dtype, args.remat)
  state = jax.jit(init)()
  batch = jax.device_put(batch)
  variables = jax.tree.map(lambda x: x.copy(), models.variables_of(state))
  forward = forward.lower(variables, batch["image"]).compile()
  update = update.lower(state, batch).compile()
  holder = [state]

  def run_forward():
    forward(variables, batch["image"]).block_until_ready()

  def run_train():
    holder[0], loss = update(holder[0], batch)
    jax.block_until_ready((holder[0], loss))

  for run, compiled in ((run_forward, forward), (run_train, update)):
    memory = compiled.memory_analysis()
    run.peak = memory.temp_size_in_bytes if memory else None
    run.compiled = compiled
  return {"forward": run_forward, "train": run_train}, flops


def flop(jitted: Callable, *args) -> float:
  """XLA's count for a call, as a CPU would run it.

  Clients of other devices may not count, and see nothing in fused attention.
  """
  import jax

  cpu = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
  shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cpu), args
  )
  return jitted.lower(*shapes).cost_analysis()["flops"]


def torch_steps(size: str, args, batch: dict) -> dict[str, dict]:
  """{eager, compile: {forward, train: () -> None}}, empty without torch."""
  try:
    import torch
    from timm.models.vision_transformer import VisionTransformer
  except ImportError:
    return {}
  import torch.nn.functional as F
  from torch import nn

  from ppseg_jax.models.vit import SIZES

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  device = "cuda" if torch.cuda.is_available() else "cpu"

  class Naive(nn.Module):
    """Zheng et al., CVPR 2021, section 3.2."""

    def __init__(self):
      super().__init__()
      width, depth, heads = SIZES[size][:3]
      self.encoder = VisionTransformer(
          img_size=(args.height, args.width), patch_size=16, embed_dim=width,
          depth=depth, num_heads=heads, num_classes=0, class_token=False,
          global_pool="",
      )
      self.head = nn.Sequential(
          nn.Conv2d(width, 256, 1), nn.BatchNorm2d(256), nn.ReLU(),
          nn.Conv2d(256, _CLASSES, 1),
      )

    def forward(self, images):  # uint8 [B, H, W, 3]
      x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
      x = self.encoder.forward_features(x).transpose(1, 2)
      x = x.unflatten(2, (args.height // 16, args.width // 16))
      logits = self.head(x).float()
      return F.interpolate(logits, (args.height, args.width), mode="bilinear")

  images = torch.from_numpy(batch["image"]).to(device)
  labels = torch.from_numpy(batch["label"]).long().to(device)
  half = args.dtype == "bfloat16"

  def steps(compiled: bool) -> dict[str, Callable]:
    torch.manual_seed(0)
    model = Naive().to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, fused=True
    )

    def loss_of(images, labels):
      with torch.autocast(device, torch.bfloat16, enabled=half):
        logits = model(images)
      return F.cross_entropy(logits.float(), labels, ignore_index=255)

    def logits_of(images):
      with torch.autocast(device, torch.bfloat16, enabled=half):
        return model(images)

    if compiled:
      loss_of, logits_of = torch.compile(loss_of), torch.compile(logits_of)

    def run_forward():
      model.eval()
      with torch.inference_mode():
        logits_of(images)
      wait()

    def run_train():
      model.train()
      loss_of(images, labels).backward()
      optimizer.step()
      optimizer.zero_grad(set_to_none=True)
      wait()

    return {"forward": run_forward, "train": run_train}

  def wait():
    if device == "cuda":
      torch.cuda.synchronize()

  contenders = {"eager": steps(False)}
  if not args.no_compile:
    try:
      contenders["compile"] = steps(True)
      for run in contenders["compile"].values():
        run()
    except Exception as error:  # no compiler, or one that fails
      print(f"torch.compile does not work here ({type(error).__name__})")
      contenders.pop("compile", None)
  return contenders


def measure(name: str, runs: dict, flops: float, rate: float, args) -> dict:
  """The row of one kind of step, its contenders taking turns."""
  for run in runs.values():
    run()
    run()
  times, cpu_times = ({who: [] for who in runs} for _ in range(2))
  for _ in range(args.rounds):
    for who, run in runs.items():
      start, cpu_start = time.perf_counter(), time.process_time()
      run()
      times[who].append(time.perf_counter() - start)
      cpu_times[who].append(time.process_time() - cpu_start)

  def of_each(reduce, times):
    return {who: reduce(values) for who, values in times.items()}

  best = of_each(min, times)
  cpu = of_each(statistics.median, cpu_times)

  def ratio(of):
    theirs = [of[who] for who in runs if who != "jax"]
    return of["jax"] / min(theirs) if theirs else None

  return {
      "name": name,
      "ratio_torch": ratio(best),
      "ratio_cpu": ratio(cpu),
      "seconds": best,
      "seconds_median": of_each(statistics.median, times),
      "cpu_seconds": cpu,
      "images_per_s": args.batch / best["jax"],
      "flop": flops,
      "flop_per_s": flops / best["jax"],
      "of_matmul_rate": flops / best["jax"] / rate,
      "peak_mb": {who: peak_mb(run) for who, run in runs.items()},
  }


def peak_mb(run: Callable) -> float | None:
  """Memory of one step beyond what is there before it, in MB."""
  import jax

  if hasattr(run, "peak"):
    return run.peak and run.peak / 1e6
  if jax.default_backend() != "cpu":
    import torch

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 1e6
  gc.collect()
  try:
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1e3
  except OSError:  # not Linux
    return None


def _status(field: str) -> int:
  """A field of /proc/self/status, in kB."""
  for line in Path("/proc/self/status").read_text().splitlines():
    if line.startswith(field):
      return int(line.split()[1])
  raise OSError(field)


def table_line(row: dict) -> str:
  def number(value, width, digits=0, scale=1.0):
    if value is None:
      return "-".rjust(width)
    return f"{value * scale:{width}.{digits}f}"

  seconds = row["seconds"]
  return (
      f"{row['name']:16}{number(seconds['jax'], 8, 1, 1e3)}"
      f"{number(row['images_per_s'], 10, 2)}"
      f"{number(row['flop_per_s'], 9, 0, 1e-9)}"
      f"{number(row['of_matmul_rate'], 10, 2)}"
      f"{number(row['peak_mb']['jax'], 9)}"
      f"{number(seconds.get('eager'), 8, 1, 1e3)}"
      f"{number(seconds.get('compile'), 8, 1, 1e3)}"
      f"{number(row['ratio_torch'], 7, 2)}{number(row['ratio_cpu'], 7, 2)}"
  )


if __name__ == "__main__":
  main()
