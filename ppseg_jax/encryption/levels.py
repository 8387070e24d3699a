"""Levels: how much of the canonical form a client lets out.

`blockwise` shows all sorted values of every channel of every block. A level is
a function of those, with less in it: a client applies it before it encrypts, so
that the ciphertext shows the level's value and nothing else, and no key is
needed to know what that is. Written behind a scheme's name, in this order:

    m2      blocks of 2x2 blocks, their sorted values together
    q4      the means of 4 groups of the sorted values
    b5      each number in its upper 5 bits

so that `blockwise_q4` shows four numbers a channel of each block, and
`blockwise_m2q4b5` four of 5 bits a channel of each 2x2 blocks. All numbers are
integers: a mean is the mean of two halves' means, rounded half to even, which
makes the levels nest (see `nested`): who has the finer value can compute the
coarser, and no two of them together show more than the finer.

The image that carries a level has each number in as many places of its block as
it stands for, so that a model that reads `blockwise` reads it as it is.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp

from ppseg_jax.encryption.permutations import sort_leading
from ppseg_jax.errors import UserError

_NAME = re.compile(r"(?:m(\d+))?(?:q(\d+))?(?:b(\d+))?")


@dataclasses.dataclass(frozen=True)
class Level:
  """An op without a key: blocks -> the blocks that carry the level's value.

  Idempotent, and the same for any two orders of the values inside the units of
  a block. What it leaves out cannot be brought back.

  Attributes:
    unit: `channel`: the values of each channel are sorted on their own;
      `value`: those of all channels together.
    merge: side, in blocks, of the squares of blocks whose values are sorted
      together; 1: each block on its own.
    groups: of the sorted values of a unit, of which the means are left; 0: all
      values are left as they are.
    bits: upper bits that are left of each number.
  """

  unit: str
  merge: int = 1
  groups: int = 0
  bits: int = 8

  def __post_init__(self):
    if self.unit not in ("channel", "value"):
      raise UserError(f"Level.unit='{self.unit}' is none of channel, value.")
    if not (self.merge >= 1 and self.groups >= 0 and 1 <= self.bits <= 8):
      raise UserError(
          f"level m{self.merge}q{self.groups}b{self.bits} cannot be: m and q"
          " are at least 1, b is 1 to 8."
      )

  def __str__(self) -> str:
    return (
        (f"m{self.merge}" if self.merge > 1 else "")
        + (f"q{self.groups}" if self.groups else "")
        + (f"b{self.bits}" if self.bits < 8 else "")
    )

  def encrypt(self, stream, blocks: jax.Array, grid: tuple[int, int],
              top: int = 255) -> jax.Array:
    """uint8 [P, N, C] -> the same shape: the level's value, spread out.

    Raises UserError for other dtypes, for blocks that do not divide into the
    groups, and for a grid that does not divide into the squares.
    """
    if blocks.dtype != jnp.uint8:
      raise UserError(f"a level needs uint8 images, not {blocks.dtype}.")
    places, count, channels = blocks.shape
    if self.merge == 1:
      grid = (1, count)  # any part of an image's blocks
    values = sort_leading(self._units(blocks, grid))  # [L, K]
    if self.groups:
      values = self._means(values)
    if self.bits < 8:
      values = upper(values, self.bits)
    values = values.astype(jnp.uint8)
    return self._blocks(values, grid, places, channels)

  def decrypt(self, stream, blocks: jax.Array, grid: tuple[int, int],
              top: int = 255) -> jax.Array:
    raise UserError(
        f"level '{self}' leaves out most of the image, which no key brings"
        " back; keep the picture itself."
    )

  def _units(self, blocks: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """[P, N, C] -> [values of a unit, units]."""
    p, _, c = blocks.shape
    k = self.merge
    if grid[0] % k or grid[1] % k:
      raise UserError(
          f"level '{self}' takes {k}x{k} blocks together, which do not divide"
          f" an image of {grid[0]}x{grid[1]} blocks."
      )
    squares = blocks.reshape(p, grid[0] // k, k, grid[1] // k, k, c)
    squares = squares.transpose(0, 2, 4, 5, 1, 3)  # [P, k, k, C, rows, columns]
    length = p * k * k * (c if self.unit == "value" else 1)
    return squares.reshape(length, -1)

  def _blocks(self, values: jax.Array, grid: tuple[int, int], places: int,
              channels: int) -> jax.Array:
    """The inverse of `_units`, of sorted values.

    Each of k*k merged blocks gets every k*k-th of them.
    """
    k = self.merge
    squares = values.reshape(
        places, k, k, channels, grid[0] // k, grid[1] // k
    )
    squares = squares.transpose(0, 4, 1, 5, 2, 3)
    return squares.reshape(places, grid[0] * grid[1], channels)

  def _means(self, values: jax.Array) -> jax.Array:
    length = len(values)
    if length % self.groups:
      raise UserError(
          f"level '{self}': {length} values do not divide into {self.groups}"
          f" groups; choose a q that divides {length}."
      )
    means = values.astype(jnp.int32)
    while len(means) // self.groups % 2 == 0:
      total = means[::2] + means[1::2]
      # Half to even: half up would make each coarser level a little lighter.
      means = (total + (total >> 1 & 1)) >> 1
    left = len(means) // self.groups  # odd
    total = means.reshape(self.groups, left, -1).sum(1)
    means = (2 * total + left) // (2 * left)
    return jnp.repeat(means, length // self.groups, axis=0)


def parse(text: str, unit: str) -> Level:
  """'m2q4b5' -> Level; UserError for what is none."""
  found = _NAME.fullmatch(text)
  if not text or not found:
    raise UserError(
        f"level='{text}' must be like q4, q4b5 or m2q4: m for squares of"
        " blocks, q for groups of sorted values, b for bits, in this order."
    )
  merge, groups, bits = (int(x) if x else None for x in found.groups())
  if 0 in (merge, groups, bits):
    raise UserError(f"level='{text}' cannot be: m, q and b are at least 1.")
  return Level(unit, merge or 1, groups or 0, 8 if bits is None else bits)


def upper(values, bits: int):
  """Integers in 0 to 255, of numpy or jax, in their upper bits: the middles."""
  low = 8 - bits
  return values >> low << low | (1 << low >> 1)


def check_noisy(groups: int, bits: int, block: int | None = None) -> None:
  """Raises UserError for what no noisy release shows, of a block if given."""
  if groups < 1 or (block and block**2 % groups):
    values = f"the {block**2} values" if block else "the values"
    raise UserError(f"groups={groups} must divide {values} of a block.")
  if not 0 <= bits <= 8:
    raise UserError(
        f"bits={bits} must be 1 to 8, of a histogram, or 0 for means."
    )
  if bits and groups > 1:
    raise UserError(
        f"groups={groups} and bits={bits}: either the means of groups are"
        " released or a histogram; give one of the two."
    )


def nested(finer: Level, coarser: Level, values: int) -> bool:
  """Whether the value of `coarser` is a function of that of `finer`.

  Args:
    finer: a level, likewise `coarser`; of one unit.
    coarser: see above.
    values: of a unit of one block: M*M, times the channels for unit `value`.
  """
  if finer.unit != coarser.unit:
    raise UserError(
        f"levels of unit '{finer.unit}' and '{coarser.unit}' do not compare."
    )
  if coarser.merge != finer.merge:
    return (coarser.merge % finer.merge == 0
            and not finer.groups and finer.bits == 8)
  if finer.bits < 8:
    return coarser.groups == finer.groups and coarser.bits <= finer.bits
  if not finer.groups or finer.groups == coarser.groups:
    return True
  length = values * finer.merge**2
  halved = length // finer.groups
  return bool(
      coarser.groups and finer.groups % coarser.groups == 0
      and halved & (halved - 1) == 0
  )


def numbers(level: Level, height: int, width: int, block: int) -> int:
  """How many numbers of `level.bits` bits an RGB image's value consists of."""
  squares = height * width // (block * level.merge) ** 2
  units = 3 if level.unit == "channel" else 1
  length = (block * level.merge) ** 2 * 3 // units
  return squares * units * (level.groups or length)
