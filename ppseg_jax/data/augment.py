"""Augmentation: of plain images by their owner, or of ciphertexts by the cloud.

An image that leaves its owner is encrypted once. Whoever trains on it then may
only do what acts on the ciphertext as it would on the image: cut a window on
the block grid, and mirror (`known_ops`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from ppseg_jax.data.labels import VOID
from ppseg_jax.data.sizes import fitted
from ppseg_jax.encryption.levels import Level
from ppseg_jax.encryption.ops import (
    BlockScramble,
    ColourShuffle,
    NegativePositive,
    NibbleSplit,
    PixelShuffle,
    RotateFlip,
)
from ppseg_jax.encryption.schemes import Scheme, get_scheme, ops_of


def make_augment(config: ml_collections.ConfigDict) -> Callable:
  """The owner's: (rng, image, labels) -> {'image', 'label'}, before encryption.

  Random scale within `scale_min` to `scale_max` and a crop to `crop_height` x
  `crop_width` (what is missing is black and void), horizontal flip with
  probability one half if `flip`, and brightness, contrast and saturation
  changed by up to the fraction `photometric`. Image uint8 [H, W, 3], labels
  uint8 [H, W].
  """
  def augment(rng, image, labels):
    scale = rng.uniform(config.scale_min, config.scale_max)
    image, labels = _resize(image, labels, scale)
    image, labels = _crop(
        rng, image, labels, config.crop_height, config.crop_width
    )
    if config.flip and rng.random() < 0.5:
      image, labels = image[:, ::-1], labels[:, ::-1]
    if config.photometric:
      image = _photometric(rng, image, config.photometric)
    return {"image": image, "label": labels}

  return augment


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
  channels are mirrored likewise. A level does the same to each block, unless it
  takes neighbours together. An op of somebody else's may do anything.
  """
  known = (BlockScramble, ColourShuffle, NegativePositive, NibbleSplit,
           PixelShuffle, RotateFlip)
  return all(
      type(op) in known or (isinstance(op, Level) and op.merge == 1)
      for op in ops_of(get_scheme(scheme))
  )


def _resize(image, labels, scale):
  h, w = labels.shape
  size = (round(w * scale), round(h * scale))
  if size == (w, h):
    return image, labels
  resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
  labels = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
  return np.asarray(resized), np.asarray(labels)


def _crop(rng, image, labels, height, width):
  pad_h = max(height - labels.shape[0], 0)
  pad_w = max(width - labels.shape[1], 0)
  if pad_h or pad_w:
    image = np.pad(image, ((0, pad_h), (0, pad_w), (0, 0)))
    labels = np.pad(labels, ((0, pad_h), (0, pad_w)), constant_values=VOID)
  top = rng.integers(labels.shape[0] - height + 1)
  left = rng.integers(labels.shape[1] - width + 1)
  window = np.s_[top : top + height, left : left + width]
  return image[window], labels[window]


def _photometric(rng, image, amount):
  brightness, contrast, saturation = rng.uniform(1 - amount, 1 + amount, 3)
  x = image.astype(np.float32) * brightness
  x = x.mean() + (x - x.mean()) * contrast
  grey = x.mean(-1, keepdims=True)
  x = grey + (x - grey) * saturation
  return np.clip(np.rint(x), 0, 255).astype(np.uint8)
