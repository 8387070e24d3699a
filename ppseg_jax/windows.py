"""Images larger than a model's input, run in windows on the block grid."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ppseg_jax.models.setr import SETR


class Windows(NamedTuple):
  """How images larger than a model's input are run.

  Attributes:
    height: of a window in pixels; likewise `width`.
    width: see above.
    stride: between windows, in pixels, on the block grid.
    at_once: windows of an image that are run together.
    whole: run images whole, of whatever size.
  """

  height: int
  width: int
  stride: int
  at_once: int = 1
  whole: bool = False


def windows_of(config: ml_collections.ConfigDict) -> Windows:
  return Windows(
      config.data.crop_height, config.data.crop_width, config.eval.stride,
      config.eval.windows, config.eval.whole,
  )


def window_starts(size: int, window: int, stride: int) -> list[int]:
  """Where windows start that cover 0 to size, the last ending at the edge."""
  starts = list(range(0, max(size - window, 0) + 1, stride))
  if starts[-1] + window < size:
    starts.append(size - window)
  return starts


def predict_logits(
    model: SETR, variables: dict, images: jax.Array, windows: Windows
) -> jax.Array:
  """Logits of whole images, averaged where windows overlap.

  The windows are worked through one after another, so that besides the result
  there is the memory of `at_once` of them. Images no larger than a window are
  run whole.

  Args:
    model: SETR.
    variables: `params` and `batch_stats`.
    images: uint8 [B, H, W, C].
    windows: how.

  Returns:
    float32 [B, H, W, K].
  """
  batch, height, width, channels = images.shape
  rows, columns = min(windows.height, height), min(windows.width, width)
  if windows.whole or (height, width) == (rows, columns):
    return model.apply(variables, images)
  tops = window_starts(height, rows, windows.stride)
  lefts = window_starts(width, columns, windows.stride)
  corners = [(top, left) for top in tops for left in lefts]
  at_once = min(windows.at_once, len(corners))
  # The last group is filled up with windows that count nothing.
  missing = -len(corners) % at_once
  weights = np.array([1.0] * len(corners) + [0.0] * missing, np.float32)
  corners = np.array(corners + corners[-1:] * missing)

  def add(total, group):
    corners, weights = group
    starts = [(0, corners[i, 0], corners[i, 1], 0) for i in range(at_once)]
    size = (batch, rows, columns, channels)
    parts = jnp.stack(
        [jax.lax.dynamic_slice(images, start, size) for start in starts], 1
    )  # an image's windows side by side: they stay on its device
    logits = model.apply(variables, parts.reshape(-1, *size[1:]))
    logits = logits.reshape(batch, at_once, rows, columns, -1)
    for i, start in enumerate(starts):
      part = logits[:, i]
      old = jax.lax.dynamic_slice(total, start, part.shape)
      part = old + weights[i] * part
      total = jax.lax.dynamic_update_slice(total, part, start)
    return total, None

  total, _ = jax.lax.scan(
      add,
      jnp.zeros((batch, height, width, model.num_classes)),
      (corners.reshape(-1, at_once, 2), weights.reshape(-1, at_once)),
  )
  # Windows are a grid: how many cover a pixel is a product of two counts.
  down, across = np.zeros(height, np.float32), np.zeros(width, np.float32)
  for top in tops:
    down[top : top + rows] += 1
  for left in lefts:
    across[left : left + columns] += 1
  return total / (down[:, None, None] * jnp.asarray(across)[:, None])
