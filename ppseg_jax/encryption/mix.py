"""Mixing-up of sub-patches: a block becomes the mean of its parts.

Hao et al., IJCAI 2025, arXiv 2306.03679: the values at one place of all parts
of a block are averaged. No key takes part, and whoever has the mean has all
that is left. In the image that carries it every part is that mean, so that a
model of whole blocks reads it as it is.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from ppseg_jax.encryption.levels import Level
from ppseg_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Mix:
  """An op without a key: each part of a block becomes the mean of all.

  Idempotent. What it leaves out cannot be brought back.

  Attributes:
    parts: along each side of a block.
  """

  parts: int = 2

  def __post_init__(self):
    if not isinstance(self.parts, int) or self.parts < 1:
      raise UserError(f"Mix.parts={self.parts} must be an integer above 0.")

  def encrypt(self, stream, blocks: jax.Array, grid: tuple[int, int],
              top: int = 255) -> jax.Array:
    """uint8 [P, N, C] -> the same shape: the mean, half rounded up.

    Raises UserError for other dtypes, and for blocks that do not divide.
    """
    if blocks.dtype != jnp.uint8:
      raise UserError(f"a mix needs uint8 images, not {blocks.dtype}.")
    p, n, c = blocks.shape
    side, k = math.isqrt(p), self.parts
    if side % k:
      raise UserError(
          f"blocks of {side}x{side} pixels do not divide into {k}x{k} parts;"
          f" choose a block size that is a multiple of {k}."
      )
    parts = blocks.reshape(k, side // k, k, side // k, n, c).astype(jnp.int32)
    total = parts.sum((0, 2), keepdims=True)
    mean = (2 * total + k * k) // (2 * k * k)
    mean = jnp.broadcast_to(mean, parts.shape).astype(jnp.uint8)
    return mean.reshape(p, n, c)

  def decrypt(self, stream, blocks: jax.Array, grid: tuple[int, int],
              top: int = 255) -> jax.Array:
    raise UserError(
        f"the mean of {self.parts}x{self.parts} parts leaves out most of a"
        " block, which no key brings back; keep the picture itself."
    )


# Ops without a key, which leave out what no key brings back.
Keyless = Level | Mix
