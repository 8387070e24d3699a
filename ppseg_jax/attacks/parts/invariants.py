"""What no op inside a block changes, for networks to read."""

import numpy as np

from ppseg_jax.attacks.parts.halves import split_halves
from ppseg_jax.attacks.parts.knowledge import Knowledge, mixes_channels
from ppseg_jax.attacks.parts.levels import apply_level
from ppseg_jax.encryption import (
    ColourShuffle,
    NegativePositive,
    NibbleSplit,
    ops_of,
)
from ppseg_jax.encryption.blocks import split


def quantiles(
    knowledge: Knowledge, images: np.ndarray, count: int
) -> np.ndarray:
  """Quantiles of each block's values, channel by channel where they stay apart.

  The same for every key of the scheme, but for the places of scrambled blocks.
  Where values are shuffled inside blocks and nowhere else this is the canonical
  form, thinned; elsewhere it tells less. At a level it is of what that leaves.

  Args:
    knowledge: for scheme and block size.
    images: uint8 [K, H, W, 3], plain or encrypted.
    count: of quantiles, of each channel or of all values together.

  Returns:
    float32 [K, N, count * channels], -1 to 1, the channels of a quantile side
    by side.
  """
  scheme = knowledge.scheme
  images = apply_level(knowledge, images)
  values, top = split(images, knowledge.block), 255
  if ops_of(scheme, NibbleSplit):
    values, top = split_halves(values), 15
  values = values.reshape(*values.shape[:2], -1, values.shape[-1])
  for op in ops_of(scheme, NegativePositive):
    if op.unit in ("pixel", "value"):
      values = np.minimum(values, top - values)
    else:
      axes = 2 if op.unit == "channel" else (2, 3)
      bright = values.mean(axes, keepdims=True) > top / 2
      values = np.where(bright, top - values, values)
  if mixes_channels(scheme):
    values = values.reshape(*values.shape[:2], -1, 1)
  elif ops_of(scheme, ColourShuffle):
    values = np.sort(values, 3)
  places = np.linspace(0, values.shape[2] - 1, count).astype(int)
  chosen = np.sort(values, 2)[:, :, places]  # [K, N, count, channels]
  chosen = chosen.reshape(*chosen.shape[:2], -1)
  return chosen.astype(np.float32) / (top / 2) - 1
