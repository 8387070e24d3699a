"""What a core reads and prepares a second, and how many cores feed one GPU.

python -m benchmarks.input --json=input.json

Pairs of Cityscapes' size are drawn, written as PNG and read as training reads
them (`configs/setr_home.py:cityscapes`, and `setr_enc.py:cityscapes` for the
cloud's setting): decoding the image, decoding the labels and mapping their ids,
cutting and resizing the window that is trained on, and stacking a batch and
handing it to the device. A time is the processor time of one thread, the median
over the pairs. Colours change inside the train step and cost no core. With
--level the files are written at that zlib level, as `python -m ppseg_jax.data
convert --level` does; 0 is uncompressed.

What the GPU wants is its rate times the share of it that is reached, over the
FLOP of a train step (XLA's count, without rematerialisation): by default the
dense bfloat16 rate of an H100 SXM, 989 TFLOP/s, at 45 %.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from benchmarks.model import write_json
from ppseg_jax import config as config_checks
from ppseg_jax import optim, sharding, train
from ppseg_jax.configs import setr_home, setr_plain
from ppseg_jax.data import augment
from ppseg_jax.data.label_files import read_labels
from ppseg_jax.data.labels import CITYSCAPES
from ppseg_jax.pictures import read_rgb
from ppseg_jax.runs import model as models
from ppseg_jax.runs.start import make_init

_parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
_parser.add_argument("--json", help="file for the figures")
_parser.add_argument("--pairs", type=int, default=16)
_parser.add_argument("--height", type=int, default=1024)
_parser.add_argument("--width", type=int, default=2048)
_parser.add_argument("--crop", type=int, default=768)
_parser.add_argument("--batch", type=int, default=8)
_parser.add_argument("--level", type=int, default=6, help="zlib level, 0 to 9")
_parser.add_argument("--size", default="large", help="of the model")
_parser.add_argument("--rate", type=float, default=989e12, help="FLOP/s")
_parser.add_argument("--share", type=float, default=0.45, help="of the rate")
HOME = ("decode image", "decode labels", "window", "batch")
CLOUD = ("decode image", "decode labels", "whole batch")


def main(argv: list[str] | None = None) -> None:
  args = _parser.parse_args(argv)
  with tempfile.TemporaryDirectory() as folder:
    pairs = [draw(Path(folder), i, args) for i in range(args.pairs)]
    sizes = [[path.stat().st_size for path in pair] for pair in pairs]
    seconds = stages(pairs, args)
  image_bytes, label_bytes = (
      statistics.mean(each) for each in zip(*sizes, strict=True)
  )
  print(f"{args.height}x{args.width}, PNG of {image_bytes / 1e6:.2f} and"
        f" {label_bytes / 1e6:.2f} MB; one thread")
  print(f"{'':28}{'ms':>8}{'a second':>10}")
  for name, value in seconds.items():
    print(f"{name:28}{1e3 * value:8.1f}{1 / value:10.1f}")
  flop = flop_of_step(args)
  wanted = args.rate * args.share / flop
  print(f"SETR-Naive {args.size} at {args.crop}x{args.crop}: {flop / 1e12:.3g}"
        f" TFLOP an image, so that {args.rate / 1e12:.0f} TFLOP/s at"
        f" {args.share:.0%} want {wanted:.1f} images/s")
  cores = {}
  for setting, parts in (("home", HOME), ("cloud", CLOUD)):
    total = sum(seconds[name] for name in parts)
    cores[setting] = wanted * total
    print(f"setting={setting:6} {1e3 * total:6.1f} ms an image, {1 / total:.1f}"
          f" images/s a core: {cores[setting]:.1f} cores feed it")
  if args.json:
    write_json(args.json, {
        "seconds": seconds, "image_bytes": image_bytes,
        "label_bytes": label_bytes, "flop": flop, "wanted": wanted,
        "cores": cores, **vars(args),
    })


def draw(folder: Path, number: int, args) -> tuple[Path, Path]:
  """Writes a pair; a photograph's PNG of this size is about as large.

  The image is noise at several scales; the labels are patches, by raw ids.
  """
  rng = np.random.default_rng(number)
  size = (args.width, args.height)

  def field(cells: int, amount: float) -> np.ndarray:
    coarse = rng.normal(0, amount, (cells, 2 * cells)).astype(np.float32)
    return np.asarray(
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    )

  image = 128 + rng.normal(0, 0.7, (*size[::-1], 3)) + np.stack([
      sum(field(4**k, 60 / 2**k) for k in range(1, 5)) for _ in range(3)
  ], -1)
  labels = np.clip(16 + 5 * field(8, 1.0), 0, 33)
  paths = folder / f"{number}.png", folder / f"{number}_labels.png"
  for path, values in zip(paths, (np.clip(image, 0, 255), labels),
                          strict=True):
    Image.fromarray(values.astype(np.uint8)).save(
        path, compress_level=args.level
    )
  return paths


def stages(pairs: list[tuple[Path, Path]], args) -> dict[str, float]:
  """Processor seconds of each stage for one image, the median."""
  config = setr_home.get_config("cityscapes").data
  config.crop_height = config.crop_width = args.crop
  cut = augment.make_augment(config)
  mesh = sharding.make_mesh(setr_home.get_config().mesh)
  spent = {name: [] for name in (*HOME, *CLOUD)}

  def timed(name: str, call, images: int = 1):
    start = time.thread_time()
    result = call()
    spent[name].append((time.thread_time() - start) / images)
    return result

  def batch(name: str, examples: list[dict]) -> None:
    chosen = [examples[i % len(examples)] for i in range(args.batch)]
    timed(name, lambda: jax.block_until_ready(sharding.put_batch({
        key: np.stack([each[key] for each in chosen]) for key in chosen[0]
    }, mesh)), args.batch)

  whole, parts = [], []
  for number, (image_path, label_path) in enumerate(pairs):
    image = timed("decode image", lambda path=image_path: read_rgb(path))
    labels = timed("decode labels", lambda path=label_path: (
        CITYSCAPES.to_train_ids(read_labels(path)[0], str(path))
    ))
    rng = np.random.default_rng(number)
    parts.append(timed("window", lambda rng=rng, pair=(image, labels): (
        cut(rng, *pair)
    )))
    whole = (whole + [{"image": image, "label": labels}])[-args.batch :]
  for _ in range(5):
    batch("batch", parts)
    batch("whole batch", whole)
  return {name: statistics.median(values) for name, values in spent.items()}


def flop_of_step(args) -> float:
  """FLOP of a train step for one image; nothing is run or allocated."""
  config = setr_plain.get_config("cityscapes")
  config.batch_size = 1
  config.data.crop_height = config.data.crop_width = args.crop
  config.model.update(size=args.size, remat=False)
  config = config_checks.resolve(config)
  model = models.make(config, CITYSCAPES.num_classes)
  optimizer = optim.make_optimizer(config.optim, config.steps)
  state = jax.eval_shape(make_init(config, model, optimizer))
  shape = (1, args.crop, args.crop)
  one = jax.ShapeDtypeStruct((1,), np.int32)
  update = train.make_update(config, model, optimizer)
  return jax.jit(update).lower(state, {
      "image": jax.ShapeDtypeStruct((*shape, 3), np.uint8),
      "label": jax.ShapeDtypeStruct(shape, np.uint8),
      "index": one, "epoch": one,
  }).cost_analysis()["flops"]


if __name__ == "__main__":
  main()
