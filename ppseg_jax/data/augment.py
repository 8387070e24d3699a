"""Augmentation of plain images, before encryption, on the host."""

from collections.abc import Callable

import ml_collections
import numpy as np
from PIL import Image

from ppseg_jax.data.labels import VOID


def make_augment(config: ml_collections.ConfigDict) -> Callable:
  """The function (rng, image, labels) -> (image, labels) of a data config.

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
    return image, labels

  return augment


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
