"""Encryption ops: permutations of positions and invertible maps of values.

An op acts on the blocks of one image, [P, N, C]: P = M*M pixel positions of a
block, N blocks in row-major order, C channels. `encrypt` and `decrypt` take

    stream: the op's part of the image's keystream (`NibbleSplit`: a tuple),
    blocks: uint8 or float [P, N, C],
    grid: rows and columns of blocks in the image,
    top: the largest value, 255, or 15 for half a byte,

keep shape and dtype, and are inverse to the last bit on uint8. Permutations
move floats as they are, whatever they hold; maps of values are exact for floats
that hold integers in 0 to `top`.

Scope `block` means another random choice for each block position of the image,
`image` the same one for all of them. `kind` numbers an op's part of the
keystream, so that adding an op of another kind to a scheme leaves this one's
random choices as they were.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption.columns import Words, column_numbers
from ppseg_jax.encryption.permutations import (
    cycle,
    in_chunks,
    invert,
    permutation,
)
from ppseg_jax.errors import UserError

Grid = tuple[int, int]


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
  if value not in choices:
    raise UserError(f"{name}='{value}' is none of {', '.join(choices)}.")


def _check_fraction(name: str, fraction: float) -> None:
  if not 0 <= fraction <= 1:
    raise UserError(f"{name}.fraction={fraction} must be in 0 to 1.")


def _check_size(name: str, value: int) -> None:
  if value < 0:
    raise UserError(f"{name}={value} must be 0 or more.")


def _restricted(
    stream: Words, n: int, columns: jax.Array, fraction: float
) -> jax.Array:  # int32 [n, K]
  perm = permutation(stream, n, columns)
  if fraction == 1:
    return perm
  moved = math.floor(fraction * n + 0.5)
  if moved == 1:
    raise UserError(
        f"fraction={fraction} of {n} positions is one position, which cannot"
        " move alone; choose a larger fraction, or 0."
    )
  return cycle(perm, moved)


def _take(rows: jax.Array, perm: jax.Array) -> jax.Array:
  """rows [L, ..., trailing] at perm [L, ...] along the leading axis."""
  shape = perm.shape + (1,) * (rows.ndim - perm.ndim)
  perm = jnp.broadcast_to(perm.reshape(shape), perm.shape[:1] + rows.shape[1:])
  return jnp.take_along_axis(rows, perm, axis=0, mode="promise_in_bounds")


def to_cells(blocks: jax.Array, cell: int) -> jax.Array:
  """[P, N, C] -> [p, N, G, C]: the G cells of each block (0: one, itself)."""
  p, n, c = blocks.shape
  side = math.isqrt(p)
  cell = cell or side
  if side % cell:
    raise UserError(
        f"cell={cell} does not divide the block size {side}; choose a divisor."
    )
  g = side // cell
  cells = blocks.reshape(g, cell, g, cell, n, c).transpose(1, 3, 4, 0, 2, 5)
  return cells.reshape(cell * cell, n, g * g, c)


def from_cells(cells: jax.Array) -> jax.Array:
  """The inverse of `to_cells`."""
  p, n, groups, c = cells.shape
  cell, g = math.isqrt(p), math.isqrt(groups)
  blocks = cells.reshape(cell, cell, n, g, g, c).transpose(3, 0, 4, 1, 2, 5)
  return blocks.reshape(p * groups, n, c)


def to_rows(cells: jax.Array, unit: str) -> jax.Array:
  """Cells [p, N, G, C] -> what a shuffle moves, [L, N, U, W].

  L places, among which it moves things of W values, in U units a block.
  """
  p, n, g, c = cells.shape
  if unit == "value":
    return cells.transpose(0, 3, 1, 2).reshape(p * c, n, g, 1)
  if unit == "channel":
    return cells.reshape(p, n, g * c, 1)
  return cells


def from_rows(rows: jax.Array, unit: str, channels: int) -> jax.Array:
  """The inverse of `to_rows`."""
  length, n, units, _ = rows.shape
  if unit == "value":
    cells = rows.reshape(length // channels, channels, n, units)
    return cells.transpose(0, 2, 3, 1)
  if unit == "channel":
    return rows.reshape(length, n, units // channels, channels)
  return rows


@dataclasses.dataclass(frozen=True)
class BlockScramble:
  """Permutes the blocks inside each region of the image.

  Attributes:
    height: of a region in blocks; 0: the image's. With a width of 0 the
      regions are horizontal bands, otherwise tiles.
    width: of a region in blocks; 0: the image's.
    fraction: the share of positions of a region that move; exactly the others,
      chosen at random, stay. 1: a uniform permutation.
  """

  height: int = 0
  width: int = 0
  fraction: float = 1.0
  kind: ClassVar[int] = 1

  def __post_init__(self):
    _check_size("BlockScramble.height", self.height)
    _check_size("BlockScramble.width", self.width)
    _check_fraction("BlockScramble", self.fraction)

  def encrypt(self, stream, blocks: jax.Array, grid: Grid, top: int = 255):
    regions = self.to_regions(blocks, grid)
    moved = _take(regions, self._permutation(stream, regions))
    return self.from_regions(moved, blocks.shape, grid)

  def decrypt(self, stream, blocks: jax.Array, grid: Grid, top: int = 255):
    regions = self.to_regions(blocks, grid)
    moved = _take(regions, invert(self._permutation(stream, regions)))
    return self.from_regions(moved, blocks.shape, grid)

  def _permutation(self, stream: Words, regions: jax.Array) -> jax.Array:
    n, count = regions.shape[:2]
    return _restricted(stream, n, column_numbers(count), self.fraction)

  def to_regions(self, blocks: jax.Array, grid: Grid) -> jax.Array:
    """[P, N, C] -> [blocks of a region, regions, P, C]."""
    p, _, c = blocks.shape
    h, w = self.height or grid[0], self.width or grid[1]
    if grid[0] % h or grid[1] % w:
      raise UserError(
          f"BlockScramble's regions of {h}x{w} blocks do not divide an image of"
          f" {grid[0]}x{grid[1]} blocks."
      )
    regions = blocks.reshape(p, grid[0] // h, h, grid[1] // w, w, c)
    regions = regions.transpose(2, 4, 1, 3, 0, 5)
    return regions.reshape(h * w, -1, p, c)

  def from_regions(
      self, regions: jax.Array, shape: tuple[int, ...], grid: Grid
  ) -> jax.Array:
    """The inverse of `to_regions`."""
    p, _, c = shape
    h, w = self.height or grid[0], self.width or grid[1]
    blocks = regions.reshape(h, w, grid[0] // h, grid[1] // w, p, c)
    return blocks.transpose(4, 2, 0, 3, 1, 5).reshape(shape)


@dataclasses.dataclass(frozen=True)
class PixelShuffle:
  """Permutes the values inside each block, or inside each cell of it.

  Attributes:
    unit: `value`: all values together, so that channels mix; `channel`: the
      values of each channel by a permutation of its own; `pixel`: the pixels,
      their channels moving together.
    scope: `image` or `block`.
    cell: the side in pixels of the cells, each with a permutation of its own,
      that values do not leave; 0: the whole block.
    fraction: the share of positions that move; exactly the others, chosen at
      random, stay. 1: a uniform permutation.
  """

  unit: str
  scope: str
  cell: int = 0
  fraction: float = 1.0
  kind: ClassVar[int] = 2

  def __post_init__(self):
    _choice("PixelShuffle.unit", self.unit, ("value", "channel", "pixel"))
    _choice("PixelShuffle.scope", self.scope, ("image", "block"))
    _check_size("PixelShuffle.cell", self.cell)
    _check_fraction("PixelShuffle", self.fraction)

  def encrypt(self, stream, blocks: jax.Array, grid: Grid, top: int = 255):
    return self._move(stream, blocks, lambda perm: perm)

  def decrypt(self, stream, blocks: jax.Array, grid: Grid, top: int = 255):
    return self._move(stream, blocks, invert)

  def _move(self, stream: Words, blocks: jax.Array, way) -> jax.Array:
    rows = to_rows(to_cells(blocks, self.cell), self.unit)
    length, n, units, width = rows.shape

    def shuffle(columns, values):
      perm = _restricted(stream, length, columns, self.fraction)
      return _take(values, way(perm))

    if self.scope == "block":
      moved = in_chunks(
          shuffle, rows.reshape(length, n * units, width), stream.images,
          length,
      ).reshape(rows.shape)
    else:
      perm = way(_restricted(
          stream, length, column_numbers(units), self.fraction
      ))
      if units == 1:
        moved = rows[perm[:, 0]]
      else:
        moved = _take(rows, jnp.broadcast_to(
            perm[:, None], (length, n, units)
        ))
    return from_cells(from_rows(moved, self.unit, blocks.shape[2]))


def dihedral(side: int) -> np.ndarray:
  """For each of the 8 moves the place each place reads from, int32 [8, P].

  Move 4 f + r turns the block r quarter turns anticlockwise, after a flip left
  to right if f is 1.
  """
  square = np.arange(side * side, dtype=np.int32).reshape(side, side)
  return np.stack([
      np.rot90(face, turns).ravel()
      for face in (square, square[:, ::-1]) for turns in range(4)
  ])


@dataclasses.dataclass(frozen=True)
class RotateFlip:
  """One of the 8 moves of a square for each block, or each cell of it.

  Attributes:
    scope: `image` or `block`.
    cell: the side in pixels of the cells that move each on its own; 0: the
      whole block.
  """

  scope: str
  cell: int = 0
  kind: ClassVar[int] = 4

  def __post_init__(self):
    _choice("RotateFlip.scope", self.scope, ("image", "block"))
    _check_size("RotateFlip.cell", self.cell)

  def encrypt(self, stream, blocks: jax.Array, grid: Grid, top: int = 255):
    return self._move(stream, blocks, lambda moves: moves)

  def decrypt(self, stream, blocks: jax.Array, grid: Grid, top: int = 255):
    return self._move(stream, blocks, lambda moves: np.argsort(moves, axis=1))

  def _move(self, stream: Words, blocks: jax.Array, way) -> jax.Array:
    cells = to_cells(blocks, self.cell)
    p, n, g, _ = cells.shape
    moves = jnp.asarray(way(dihedral(math.isqrt(p))).astype(np.int32))
    count = n * g if self.scope == "block" else g
    drawn = stream.words(1, column_numbers(count))[0] >> 29
    perm = moves[drawn].T.reshape(p, -1, g)
    return from_cells(_take(cells, jnp.broadcast_to(perm, (p, n, g))))


@dataclasses.dataclass(frozen=True)
class NegativePositive:
  """v -> 255 - v where a random bit is set; its own inverse.

  Attributes:
    unit: what a bit stands for: the whole `block`, a `channel` of it, a
      `pixel`, or a single `value`.
    scope: `image` or `block`.
  """

  unit: str
  scope: str
  kind: ClassVar[int] = 3

  def __post_init__(self):
    _choice("NegativePositive.unit", self.unit,
            ("block", "channel", "pixel", "value"))
    _choice("NegativePositive.scope", self.scope, ("image", "block"))

  def encrypt(self, stream, blocks: jax.Array, grid: Grid, top: int = 255):
    p, _, c = blocks.shape
    p = p if self.unit in ("pixel", "value") else 1
    c = c if self.unit in ("channel", "value") else 1

    def turn(columns, values):
      bits = stream.bits(p * c, columns).reshape(p, c, -1).transpose(0, 2, 1)
      return jnp.where(bits, negate(values, top), values)

    if self.scope == "image":
      return turn(column_numbers(1), blocks)
    return in_chunks(turn, blocks, stream.images, p * c)

  decrypt = encrypt


def negate(values: jax.Array, top: int = 255) -> jax.Array:
  """top - v, in the dtype of v."""
  return jnp.asarray(top, values.dtype) - values


@dataclasses.dataclass(frozen=True)
class ColourShuffle:
  """Permutes the channels.

  Attributes:
    unit: `block`: one permutation for all pixels of a block; `pixel`: one each.
    scope: `image` or `block`.
    overwrite: channels are overwritten in turn, c by what then stands in
      channel perm[c], so that only the identity keeps them all: cannot be
      undone. Only for repeating figures made that way.
  """

  unit: str
  scope: str
  overwrite: bool = False
  kind: ClassVar[int] = 5

  def __post_init__(self):
    _choice("ColourShuffle.unit", self.unit, ("block", "pixel"))
    _choice("ColourShuffle.scope", self.scope, ("image", "block"))

  def encrypt(self, stream, blocks: jax.Array, grid: Grid, top: int = 255):
    return self._move(stream, blocks, lambda perm: perm)

  def decrypt(self, stream, blocks: jax.Array, grid: Grid, top: int = 255):
    if self.overwrite:
      raise UserError(
          "ColourShuffle(overwrite=True) loses channels and cannot be"
          " decrypted; use a scheme with overwrite=False, such as 'etc'."
      )
    return self._move(stream, blocks, invert)

  def _move(self, stream: Words, blocks: jax.Array, way) -> jax.Array:
    p, n, c = blocks.shape
    units = p if self.unit == "pixel" else 1
    rows = blocks.transpose(2, 1, 0).reshape(c, n, units, -1)

    def shuffle(columns, values):
      perm = way(permutation(stream, c, columns))
      if self.overwrite:
        perm = _overwritten(perm)
      return _take(values, perm)

    if self.scope == "block":
      moved = in_chunks(
          shuffle, rows.reshape(c, n * units, -1), stream.images, 16
      )
    else:
      moved = shuffle(
          column_numbers(units),
          rows.transpose(0, 2, 1, 3).reshape(c, units, -1),
      ).reshape(c, units, n, -1).transpose(0, 2, 1, 3)
    return moved.reshape(c, n, p).transpose(2, 1, 0)


def _overwritten(perm: jax.Array) -> jax.Array:
  """The channel each ends up with, when they are copied in turn, [C, K]."""
  now = jnp.broadcast_to(jnp.arange(len(perm))[:, None], perm.shape)
  for channel in range(len(perm)):
    source = jnp.take_along_axis(now, perm[channel][None], axis=0)[0]
    now = now.at[channel].set(source)
  return now.astype(perm.dtype)


@dataclasses.dataclass(frozen=True)
class NibbleSplit:
  """Splits values in two halves of 4 bits, applies ops to those, and joins.

  The upper halves of the C channels are channels 0 to C-1, the lower ones C to
  2C-1, with values in 0 to 15. Floats must hold integers in 0 to 255.

  Attributes:
    ops: applied to the 2C channels, in this order.
  """

  ops: tuple[PixelShuffle | NegativePositive, ...]

  def encrypt(self, stream, blocks: jax.Array, grid: Grid, top: int = 255):
    halves = split(blocks)
    for op, part in zip(self.ops, stream, strict=True):
      halves = op.encrypt(part, halves, grid, top=15)
    return join(halves)

  def decrypt(self, stream, blocks: jax.Array, grid: Grid, top: int = 255):
    halves = split(blocks)
    for op, part in zip(self.ops[::-1], stream[::-1], strict=True):
      halves = op.decrypt(part, halves, grid, top=15)
    return join(halves)


def split(blocks: jax.Array) -> jax.Array:
  """[P, N, C] of 0 to 255 -> [P, N, 2C] of 0 to 15, the upper halves first."""
  sixteen = jnp.asarray(16, blocks.dtype)
  upper = blocks // sixteen
  return jnp.concatenate([upper, blocks - sixteen * upper], axis=-1)


def join(halves: jax.Array) -> jax.Array:
  """The inverse of `split`."""
  upper, lower = jnp.split(halves, 2, axis=-1)
  return jnp.asarray(16, halves.dtype) * upper + lower


Op = (
    BlockScramble | PixelShuffle | RotateFlip | NegativePositive | ColourShuffle
    | NibbleSplit
)
