"""Encryption ops: permutations of positions and invertible maps of values.

An op acts on the blocks of one image, [P, N, C]: P = M*M pixel positions of a
block, N blocks in row-major order, C channels. Positions lead because a
permutation is then a copy of rows. `encrypt` and `decrypt` are pure functions
of a key and blocks, keep shape and dtype, and are inverse to the last bit on
integers. Values are in 0 to 255, of dtype uint8 or float.

`stream` numbers an op's part of the image's key, so that adding another op to
a scheme leaves this one's random choices as they were.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from ppseg_jax.encryption.permutations import invert, permutations
from ppseg_jax.errors import UserError


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
  if value not in choices:
    raise UserError(f"{name}='{value}' is none of {', '.join(choices)}.")


@dataclasses.dataclass(frozen=True)
class BlockScramble:
  """Permutes the N blocks of the image."""

  stream: ClassVar[int] = 1

  def encrypt(self, key: jax.Array, blocks: jax.Array) -> jax.Array:
    return blocks[:, permutations(key, blocks.shape[1], 1)[:, 0]]

  def decrypt(self, key: jax.Array, blocks: jax.Array) -> jax.Array:
    return blocks[:, invert(permutations(key, blocks.shape[1], 1)[:, 0])]


@dataclasses.dataclass(frozen=True)
class PixelShuffle:
  """Permutes the values inside each block.

  Attributes:
    unit: `value`: all P*C values together, so that channels mix; `channel`:
      the P values of each channel by a permutation of its own; `pixel`: the P
      pixels, their channels moving together.
    scope: `image`: the same permutation for all blocks of an image; `block`:
      an independent one for each.
  """

  unit: str
  scope: str
  stream: ClassVar[int] = 2

  def __post_init__(self):
    _choice("PixelShuffle.unit", self.unit, ("value", "channel", "pixel"))
    _choice("PixelShuffle.scope", self.scope, ("image", "block"))

  def encrypt(self, key: jax.Array, blocks: jax.Array) -> jax.Array:
    return self._move(self._permutation(key, blocks.shape), blocks)

  def decrypt(self, key: jax.Array, blocks: jax.Array) -> jax.Array:
    return self._move(invert(self._permutation(key, blocks.shape)), blocks)

  def rows(self, blocks: jax.Array) -> jax.Array:
    """Blocks [P, N, C] with what the shuffle moves leading, [L, N, C or 1]."""
    if self.unit != "value":
      return blocks
    p, n, c = blocks.shape
    return blocks.transpose(0, 2, 1).reshape(p * c, n, 1)

  def unrows(self, rows: jax.Array, channels: int) -> jax.Array:
    """The inverse of `rows`."""
    if self.unit != "value":
      return rows
    length, n, _ = rows.shape
    return rows.reshape(length // channels, channels, n).transpose(0, 2, 1)

  def _permutation(
      self, key: jax.Array, shape: tuple[int, int, int]
  ) -> jax.Array:  # int32 [L, N or 1, C or 1]
    p, n, c = shape
    length = p * c if self.unit == "value" else p
    blocks = n if self.scope == "block" else 1
    channels = c if self.unit == "channel" else 1
    perm = permutations(key, length, blocks * channels)
    return perm.reshape(length, blocks, channels)

  def _move(self, perm: jax.Array, blocks: jax.Array) -> jax.Array:
    rows = self.rows(blocks)
    if perm.shape[1:] == (1, 1):
      moved = rows[perm[:, 0, 0]]
    else:
      perm = jnp.broadcast_to(perm, rows.shape)
      moved = jnp.take_along_axis(rows, perm, axis=0)
    return self.unrows(moved, blocks.shape[2])


@dataclasses.dataclass(frozen=True)
class NegativePositive:
  """v -> 255 - v where a random bit is set; its own inverse.

  Attributes:
    unit: what a bit stands for: the whole `block`, a `channel` of it, a
      `pixel`, or a single `value`.
    scope: `image`: the same bits for all blocks of an image; `block`:
      independent ones for each.
  """

  unit: str
  scope: str
  stream: ClassVar[int] = 3

  def __post_init__(self):
    _choice("NegativePositive.unit", self.unit,
            ("block", "channel", "pixel", "value"))
    _choice("NegativePositive.scope", self.scope, ("image", "block"))

  def encrypt(self, key: jax.Array, blocks: jax.Array) -> jax.Array:
    p, n, c = blocks.shape
    shape = (
        p if self.unit in ("pixel", "value") else 1,
        n if self.scope == "block" else 1,
        c if self.unit in ("channel", "value") else 1,
    )
    negative = jax.random.bits(key, shape, jnp.uint32) >> 31 == 1
    return jnp.where(negative, negate(blocks), blocks)

  decrypt = encrypt


def negate(values: jax.Array) -> jax.Array:
  """255 - v, in the dtype of v."""
  return jnp.asarray(255, values.dtype) - values
