"""The mean of each block, which shuffles inside it leave as it is."""

import numpy as np
from PIL import Image

from ppseg_jax.attacks.parts.knowledge import Knowledge, mixes_channels
from ppseg_jax.encryption import NegativePositive, ops_of
from ppseg_jax.encryption.blocks import split


def block_means(knowledge: Knowledge, values: np.ndarray) -> np.ndarray:
  """Mean colours of the blocks of ciphertexts, uint8 [B, H, W, 3].

  Returns:
    float32 [B, rows, columns, 3].
  """
  if ops_of(knowledge.scheme, NegativePositive):
    values = np.minimum(values, 255 - values) * 2
  means = split(values, knowledge.block).mean((2, 3))
  if mixes_channels(knowledge.scheme):
    means = np.broadcast_to(means.mean(-1, keepdims=True), means.shape)
  return means.reshape(len(means), *knowledge.grid, 3).astype(np.float32)


def upsample(means: np.ndarray, block: int) -> np.ndarray:
  """[B, rows, columns, 3] -> uint8 [B, H, W, 3], bicubic."""
  _, rows, columns, _ = means.shape
  size = (columns * block, rows * block)
  bands = [
      np.stack([np.asarray(Image.fromarray(image[..., channel]).resize(
          size, Image.Resampling.BICUBIC)) for channel in range(3)], -1)
      for image in means.astype(np.float32)
  ]
  return np.clip(np.rint(np.stack(bands)), 0, 255).astype(np.uint8)
