"""Bytes cut into halves, and put together again."""

import numpy as np

from ppseg_jax.encryption import ops


def split_halves(values: np.ndarray) -> np.ndarray:
  """uint8 [..., C] -> upper, then lower halves of the bytes, [..., 2C]."""
  return np.asarray(ops.split(values))


def join_halves(halves: np.ndarray) -> np.ndarray:
  """The inverse of `split_halves`."""
  return np.asarray(ops.join(halves.astype(np.uint8)))
