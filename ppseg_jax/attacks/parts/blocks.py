"""Images cut into blocks and bytes into halves, and put together again."""

import numpy as np

from ppseg_jax.encryption import ops


def split_halves(values: np.ndarray) -> np.ndarray:
  """uint8 [..., C] -> upper, then lower halves of the bytes, [..., 2C]."""
  return np.asarray(ops.split(values))


def join_halves(halves: np.ndarray) -> np.ndarray:
  """The inverse of `split_halves`."""
  return np.asarray(ops.join(halves.astype(np.uint8)))


def split(images: np.ndarray, block: int) -> np.ndarray:
  """[B, H, W, C] -> [B, N, M, M, C], blocks in row-major order."""
  b, h, w, c = images.shape
  cells = images.reshape(b, h // block, block, w // block, block, c)
  return cells.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, block, block, c)


def join(blocks: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """[B, N, M, M, C] -> [B, H, W, C]: the inverse of `split`."""
  b, _, m, _, c = blocks.shape
  cells = blocks.reshape(b, *grid, m, m, c).transpose(0, 1, 3, 2, 4, 5)
  return cells.reshape(b, grid[0] * m, grid[1] * m, c)
