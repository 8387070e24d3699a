"""Speed of every op, scheme and canonical form, against memcpy and NumPy.

python benchmarks/encryption.py --json=FILE

Prints a table and writes its rows as JSON. All times are the least of a few
runs in one process, so that the ratios compare like with like. `ratio_memcpy`
is against a copy of the same images. `ratio_numpy` is against the best plain
NumPy form of the same work, drawing of permutations included, where there is
one here; for block scope that is `Generator.permuted` alone, which draws
permutations and applies none. GB/s counts the images read plus written.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from ppseg_jax.encryption import (
    SCHEMES,
    BlockScramble,
    ColourShuffle,
    NegativePositive,
    NibbleSplit,
    PixelShuffle,
    RotateFlip,
    Scheme,
    canonical,
    decrypt,
    encrypt,
    fresh_keys,
)
from ppseg_jax.errors import UserError
from ppseg_jax.runs import workdir

_JSON = flags.DEFINE_string("json", "", "Where to write the rows.")
_HEIGHT = flags.DEFINE_integer("height", 1024, "Of an image, in pixels.")
_WIDTH = flags.DEFINE_integer("width", 2048, "Of an image, in pixels.")
_BLOCK = flags.DEFINE_integer("block", 16, "Block size in pixels.")
_BATCH = flags.DEFINE_integer("batch", 4, "Images of the batched rows.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Runs, of which the least.")
_ONLY = flags.DEFINE_list("only", [], "Schemes and ops to measure; all.")

OPS = {
    "op:block_scramble": BlockScramble(),
    "op:rotate_flip": RotateFlip("block"),
    "op:negative_block": NegativePositive("block", "block"),
    "op:negative_value": NegativePositive("value", "block"),
    "op:colour_block": ColourShuffle("block", "block"),
    "op:colour_pixel": ColourShuffle("pixel", "block"),
    "op:shuffle_value_image": PixelShuffle("value", "image"),
    "op:shuffle_value_block": PixelShuffle("value", "block"),
    "op:shuffle_channel_block": PixelShuffle("channel", "block"),
    "op:shuffle_pixel_block": PixelShuffle("pixel", "block"),
    "op:shuffle_cell_block": PixelShuffle("value", "block", cell=4),
    "op:shuffle_fraction_block": PixelShuffle("value", "block", fraction=0.25),
    "op:nibble_shuffle": NibbleSplit((PixelShuffle("value", "block"),)),
}


def least(function: Callable, *args) -> float:
  """Milliseconds of the fastest of a few runs, after one that compiles."""
  jax.block_until_ready(function(*args))
  times = []
  for _ in range(_REPEATS.value):
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    times.append(time.perf_counter() - start)
  return 1e3 * min(times)


def numpy_blocks(image: np.ndarray, block: int) -> np.ndarray:
  """[H, W, C] -> [N, M*M*C], a copy."""
  h, w, c = image.shape
  cells = image.reshape(h // block, block, w // block, block, c)
  return cells.transpose(0, 2, 1, 3, 4).reshape(-1, block * block * c)


def numpy_times(image: np.ndarray, block: int) -> dict[str, float]:
  """Milliseconds of plain NumPy for one image, by the kind of work."""
  rng = np.random.default_rng(0)
  h, w, c = image.shape
  blocks = numpy_blocks(image, block)
  n, length = blocks.shape
  perm = rng.permutation(length).astype(np.int32)

  def back(blocks):
    cells = blocks.reshape(h // block, w // block, block, block, c)
    return cells.transpose(0, 2, 1, 3, 4).reshape(image.shape)

  def image_scope():
    return back(np.take(numpy_blocks(image, block), perm, axis=1))

  def by_channel(sort):
    planes = blocks.reshape(n, -1, c).transpose(0, 2, 1).reshape(n * c, -1)
    return sort(planes)

  identity = np.tile(np.arange(length), (n, 1))
  of_channels = np.tile(np.arange(length // c), (n * c, 1))
  return {
      "value_image": least(image_scope),
      "value_block": least(lambda: rng.permuted(identity, axis=1)),
      "channel_block": least(lambda: rng.permuted(of_channels, axis=1)),
      "scramble": least(lambda: back(blocks[rng.permutation(n)])),
      "negative_value": least(lambda: np.where(
          rng.integers(0, 2, image.shape, np.uint8).astype(bool), 255 - image,
          image,
      )),
      "sort_value": least(lambda: np.sort(numpy_blocks(image, block), axis=1)),
      "sort_channel": least(lambda: by_channel(lambda x: np.sort(x, axis=1))),
  }


NUMPY = {  # what is compared with which NumPy work
    "op:shuffle_value_image": "value_image", "independent": "value_image",
    "kiya2022": "value_image", "sueyoshi2025": "value_image",
    "op:shuffle_value_block": "value_block", "blockwise_value": "value_block",
    "op:shuffle_channel_block": "channel_block", "blockwise": "channel_block",
    "op:block_scramble": "scramble", "op:negative_value": "negative_value",
    "canonical:blockwise_value": "sort_value",
    "canonical:blockwise": "sort_channel",
}


def main(_):
  h, w, block = _HEIGHT.value, _WIDTH.value, _BLOCK.value
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (h, w, 3), np.uint8)
  target = np.empty_like(image)
  memcpy = least(lambda: np.copyto(target, image))
  plain = numpy_times(image, block)
  print(f"{jax.default_backend()}: {h}x{w}x3 uint8, block {block}; memcpy"
        f" {memcpy:.2f} ms; NumPy, ms: "
        + ", ".join(f"{k} {v:.1f}" for k, v in plain.items()))
  print(f"{'name':34s} {'images':>6s} {'ms_per_image':>12s} {'gb_per_s':>8s}"
        f" {'ratio_memcpy':>12s} {'ratio_numpy':>11s}")
  rows = []

  def add(name, images, function, *args):
    try:
      ms = least(jax.jit(function), *args) / images
    except UserError:
      return  # no canonical form, or no way back
    base = plain.get(NUMPY.get(name, ""))
    row = {
        "name": name, "images": images, "ms_per_image": ms,
        "gb_per_s": 2 * image.nbytes / ms / 1e6, "ratio_memcpy": ms / memcpy,
        "ratio_numpy": ms / base if base else None,
    }
    rows.append(row)
    ratio = f"{row['ratio_numpy']:.2f}" if base else "-"
    print(f"{name:34s} {images:6d} {ms:12.2f} {row['gb_per_s']:8.2f}"
          f" {row['ratio_memcpy']:12.1f} {ratio:>11s}", flush=True)

  schemes = {
      name: Scheme(name=name, ops=(op,), leaks="", source="")
      for name, op in OPS.items()
  } | SCHEMES
  for name, scheme in schemes.items():
    if _ONLY.value and name not in _ONLY.value:
      continue
    for images in sorted({1, _BATCH.value}):
      batch = jnp.broadcast_to(image, (images, h, w, 3)) + jnp.uint8(0)
      keys = fresh_keys(images)
      add(name, images, lambda k, x, s=scheme: encrypt(s, k, x, block), keys,
          batch)
      if name in SCHEMES:
        add(f"decrypt:{name}", images,
            lambda k, x, s=scheme: decrypt(s, k, x, block), keys, batch)
        add(f"canonical:{name}", images,
            lambda x, s=scheme: canonical(s, x, block), batch)
  if _JSON.value:
    workdir.write_json(Path(_JSON.value), {
        "backend": jax.default_backend(), "shape": [h, w, 3], "block": block,
        "memcpy_ms": memcpy, "numpy_ms": plain, "rows": rows,
    })


if __name__ == "__main__":
  app.run(main)
