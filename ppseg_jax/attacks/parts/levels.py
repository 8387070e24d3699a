"""Levels of a canonical form as attacks see them."""

import functools

import jax
import numpy as np

from ppseg_jax.attacks.parts.knowledge import Knowledge, level_of
from ppseg_jax.encryption.blocks import from_blocks, to_blocks
from ppseg_jax.encryption.mix import Keyless


def apply_level(knowledge: Knowledge, images: np.ndarray) -> np.ndarray:
  """What is left of plain images, uint8 [K, H, W, 3], in the same form.

  The images themselves for a scheme without a level; as they are too where they
  are at the level already, but for the order in a block.
  """
  level = level_of(knowledge.scheme)
  if level is None:
    return images
  return np.stack(
      [np.asarray(leave(level, knowledge.block, image)) for image in images]
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def leave(op: Keyless, block: int, image: jax.Array) -> jax.Array:
  """What an op without a key leaves of an image, uint8 [H, W, 3]."""
  height, width, _ = image.shape
  grid = height // block, width // block
  blocks = op.encrypt(None, to_blocks(image, block), grid)
  return from_blocks(blocks, block, height, width)


def interpolate(values: np.ndarray, groups: int) -> np.ndarray:
  """Sorted values as they may have been before groups of them were averaged.

  On straight lines through the groups' means, each at the middle of its group,
  and the lines at both ends drawn on; then moved so that the means are as they
  were, and kept within 0 to 255.

  Args:
    values: float [..., P, C], sorted by P and the same all over a group.
    groups: 2 or more, of P / groups values each.

  Returns:
    float32 of the same shape, sorted.
  """
  *lead, size, channels = values.shape
  each = size // groups
  means = values[..., ::each, :].astype(np.float32)  # [..., groups, C]
  place = (np.arange(size) + 0.5) / each - 0.5  # in groups, 0 at the first
  low = np.clip(np.floor(place).astype(int), 0, groups - 2)
  share = (place - low)[:, None].astype(np.float32)
  lines = means[..., low, :] * (1 - share) + means[..., low + 1, :] * share
  lines = lines.reshape(*lead, groups, each, channels)
  lines += (means - lines.mean(-2))[..., None, :]
  lines = np.clip(lines.reshape(values.shape), 0, 255)
  return np.sort(lines, -2)
