"""Augmentation: of plain images by their owner, or of ciphertexts by the cloud.

An image that leaves its owner is encrypted once. Whoever trains on it then may
only do what acts on the ciphertext as it would on the image: cut a window on
the block grid, and mirror (`known_ops`).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from ppseg_jax.data.labels import VOID
from ppseg_jax.data.sizes import Size, fitted
from ppseg_jax.encryption.keys import derive
from ppseg_jax.encryption.ops import (
    BlockScramble,
    ColourShuffle,
    NegativePositive,
    NibbleSplit,
    PixelShuffle,
    RotateFlip,
)
from ppseg_jax.encryption.schemes import Scheme, get_scheme, ops_of

# Fixed point of `coloured`: 255 * 8 of the largest factor, and the sum of a
# pixel, stay below 2**31.
_BITS = 17
_HALF = 1 << (_BITS - 1)


def make_augment(config: ml_collections.ConfigDict) -> Callable:
  """The owner's: (rng, image, labels) -> {'image', 'label'}, before encryption.

  Random scale within `scale_min` to `scale_max` and a crop to `crop_height` x
  `crop_width` (what is missing is black and void), and horizontal flip with
  probability one half if `flip`. Image uint8 [H, W, 3], labels uint8 [H, W].
  What `photometric` asks for comes after it, see `coloured`.
  """
  size = (config.crop_height, config.crop_width)

  def augment(rng, image, labels):
    scale = rng.uniform(config.scale_min, config.scale_max)
    scaled = tuple(max(1, round(side * scale)) for side in labels.shape)
    # Of what is seen of the scaled picture, which may be smaller than the crop.
    seen = tuple(map(min, scaled, size))
    corner = tuple(
        int(rng.integers(whole - part + 1))
        for whole, part in zip(scaled, seen, strict=True)
    )
    image = _filled(part_of_image(image, scaled, corner, seen), size, 0)
    labels = _filled(part_of_labels(labels, scaled, corner, seen), size, VOID)
    if config.flip and rng.random() < 0.5:
      image, labels = image[:, ::-1], labels[:, ::-1]
    return {"image": image, "label": labels}

  return augment


def part_of_image(
    image: np.ndarray, scaled: Size, corner: Size, seen: Size
) -> np.ndarray:
  """What a window shows of an image that is resized (bilinear) to `scaled`.

  Only what the window needs is resized. It differs from a window of the whole
  by rounding.

  Args:
    image: uint8 [H, W, 3].
    scaled: the (height, width) that the image would be resized to.
    corner: the window's (top, left) there.
    seen: the window's (height, width).
  """
  if scaled == image.shape[:2]:
    (top, left), (height, width) = corner, seen
    return image[top : top + height, left : left + width]
  (rows, top, bottom), (columns, left, right) = (
      _span(*side) for side in
      zip(image.shape[:2], scaled, corner, seen, strict=True)
  )
  needed = Image.fromarray(np.ascontiguousarray(image[rows, columns]))
  return np.asarray(needed.resize(
      seen[::-1], Image.Resampling.BILINEAR, (left, top, right, bottom)
  ))


def _span(
    own: int, scaled: int, first: int, count: int
) -> tuple[slice, float, float]:
  """Along a side: the pixels that a window needs; its borders among them."""
  step = own / scaled
  reach = max(step, 1) + 1  # of the filter, and one for rounding
  start, stop = first * step, min((first + count) * step, own)
  low, high = max(int(start - reach), 0), min(math.ceil(stop + reach), own)
  return slice(low, high), start - low, stop - low


def part_of_labels(
    labels: np.ndarray, scaled: Size, corner: Size, seen: Size
) -> np.ndarray:
  """As `part_of_image`, of labels uint8 [H, W], the nearest pixel's."""
  rows, columns = (
      (2 * np.arange(first, first + count) + 1) * own // (2 * whole)
      for own, whole, first, count in
      zip(labels.shape, scaled, corner, seen, strict=True)
  )
  return labels[rows].take(columns, 1)


def _filled(array: np.ndarray, size: Size, missing: int) -> np.ndarray:
  """[h, w, ...] filled up below and to the right to `size`."""
  if array.shape[:2] == size:
    return array
  whole = np.full((*size, *array.shape[2:]), missing, array.dtype)
  whole[: array.shape[0], : array.shape[1]] = array
  return whole


def coloured(key: jax.Array, batch: dict, amount: float) -> dict:
  """The batch under brightness, contrast and saturation of each image's own.

  Each is changed by a factor of 1 - `amount` to 1 + `amount`, in this order:
  contrast about the mean of all values (of those that a crop fills up too),
  saturation about each pixel's mean. It is done in integers, so that a value
  does not depend on how many devices there are; it is within 1 of what real
  numbers give.

  Args:
    key: of the experiment and this purpose, typed [].
    batch: image uint8 [B, H, W, 3], index and epoch int32 [B]; the factors are
      a function of the key and these two.
    amount: 0 to 1; 0 changes nothing.
  """
  def one(image: jax.Array, index: jax.Array, epoch: jax.Array) -> jax.Array:
    words = jax.random.key_data(derive(key, epoch, index))[:3]
    uniform = (words >> 8).astype(jnp.float32) / 2**24
    brightness, contrast, saturation = 1 + amount * (2 * uniform - 1)
    x = image.astype(jnp.int32)
    # The three are one linear map: of the value, of the pixel's sum, and of 1.
    gain = brightness * contrast
    own = _fixed(gain * saturation)
    of_sum = _fixed(gain * (1 - saturation) / 3)
    constant = _fixed(brightness * (1 - contrast) * _mean(x))
    y = own * x + of_sum * x.sum(-1, keepdims=True) + constant
    return jnp.clip((y + _HALF) >> _BITS, 0, 255).astype(jnp.uint8)

  images = jax.vmap(one)(batch["image"], batch["index"], batch["epoch"])
  return batch | {"image": images}


def _fixed(x: jax.Array) -> jax.Array:
  """A number as a multiple of 2**-_BITS, int32."""
  return jnp.rint(x * 2**_BITS).astype(jnp.int32)


def _mean(x: jax.Array) -> jax.Array:
  """Of bytes as int32 [H, W, 3], by sums that are exact in any order."""
  rows = x.sum((1, 2))
  high, low = (rows >> 12).sum(), (rows & 4095).sum()
  return (high * 4096.0 + low) / x.size


def make_window(config: ml_collections.ConfigDict, unit: int) -> Callable:
  """The cloud's: (rng, image, labels) -> {'image', 'label', 'window'}.

  Chooses a window of `crop_height` x `crop_width` whose corner is a multiple of
  `unit`, and with `flip` by a coin whether to mirror it. The images stay whole,
  since they are encrypted whole; `cut` does what was chosen to the ciphertexts.
  An image of another size than `height` x `width` is `fitted` to it, always in
  the same way, since it is encrypted once.
  Window: int32 [3], (top, left, mirrored).
  """
  rows = (config.height - config.crop_height) // unit + 1
  columns = (config.width - config.crop_width) // unit + 1

  def choose(rng, image, labels):
    place, coin = rng.random(2)
    row, column = divmod(int(place * rows * columns), columns)
    mirrored = config.flip and coin < 0.5
    window = np.array([row * unit, column * unit, mirrored], np.int32)
    image, labels = fitted(image, labels, config.height, config.width)
    return {"image": image, "label": labels, "window": window}

  return choose


def cut(
    arrays: jax.Array, windows: jax.Array, height: int, width: int
) -> jax.Array:
  """What the windows show of images or labels, on the device.

  Args:
    arrays: [B, H, W] or [B, H, W, C].
    windows: int32 [B, 3] of `make_window`.
    height: of a window in pixels; likewise `width`.
    width: see above.

  Returns:
    [B, height, width] or [B, height, width, C].
  """
  def one(array: jax.Array, window: jax.Array) -> jax.Array:
    rest = array.shape[2:]
    part = jax.lax.dynamic_slice(
        array, (window[0], window[1], *(0 for _ in rest)),
        (height, width, *rest),
    )
    return jnp.where(window[2] > 0, part[:, ::-1], part)

  return jax.vmap(one)(arrays, windows)


def known_ops(scheme: str | Scheme) -> bool:
  """Whether cut and mirrored ciphertexts are known to be such of the image.

  They are for every op of this package, whoever moves blocks not being cut.
  Inside a block nothing else is looked at, so that a window of blocks is one of
  the image. Mirroring, under a key of the image's own, turns each permutation p
  of places into m p m, which is as uniform as p, whether it is of values in a
  block or a cell, a cycle of some of them, or of blocks; turns, signs and
  channels are mirrored likewise. An op of somebody else's may do anything.
  """
  known = (BlockScramble, ColourShuffle, NegativePositive, NibbleSplit,
           PixelShuffle, RotateFlip)
  return all(type(op) in known for op in ops_of(get_scheme(scheme)))
