"""Protected regions: blocks whose values are shuffled together first.

The client names regions of a picture. Their blocks are taken together in cells,
squares of blocks or each region as a whole, and the values of a cell go to
places of the whole cell, by a uniform permutation under the image's key. Then
the scheme encrypts as ever. So a ciphertext shows of a cell the histogram that
the scheme shows of a block, once for all of it, and no more: what is drawn
afterwards depends on the values as they then lie, and on nothing else. Blocks
outside have the very ciphertext that they have without regions, and the image
is one of the same scheme, which the same model reads.

What is not hidden is where the regions lie: their blocks look alike, each a
sample of the cell.

The permutation has a kind of its own in the keystream, as docs/encryption.md
states. With `deal` there is no key: the cell's sorted values go to its blocks
in turn, as cards do.
"""

import base64
import binascii
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from ppseg_jax.encryption import cipher
from ppseg_jax.encryption.blocks import (
    check_images,
    from_blocks,
    join,
    per_image,
    split,
    to_blocks,
)
from ppseg_jax.encryption.columns import column_numbers
from ppseg_jax.encryption.ops import NibbleSplit, PixelShuffle
from ppseg_jax.encryption.schemes import (
    Scheme,
    get_scheme,
    ops_of,
    squares_of,
)
from ppseg_jax.encryption.threefry import Stream, stream_number
from ppseg_jax.errors import UserError

KIND = 6
REGION = 0  # as a cell: each region as a whole
_LARGEST = 1 << 10  # blocks, of a cell's side


def unit_of(scheme: str | Scheme) -> str:
  """What the scheme shuffles in a block, which cells then shuffle as well.

  Raises UserError for a scheme that does not shuffle inside whole blocks.
  """
  scheme = get_scheme(scheme)
  shuffles = [op for op in scheme.ops if isinstance(op, PixelShuffle)]
  whole = [op for op in shuffles
           if (op.scope, op.cell, op.fraction) == ("block", 0, 1)]
  if len(shuffles) != 1 or shuffles != whole or ops_of(scheme, NibbleSplit):
    raise UserError(
        f"scheme '{scheme.name}' has no protected regions, since it does not"
        " shuffle each whole block on its own; use blockwise, or another that"
        " does."
    )
  return whole[0].unit


def check_cell(cell: int, scheme: str | Scheme = "blockwise") -> None:
  """Raises UserError unless cells of cell x cell blocks go with the scheme."""
  if not (cell == REGION or 2 <= cell <= _LARGEST):
    raise UserError(
        f"cells of {cell}x{cell} blocks protect nothing; give 2 or more, or the"
        " whole region."
    )
  merge = squares_of(scheme)
  if cell % merge:
    raise UserError(
        f"cells of {cell}x{cell} blocks cut the squares of {merge}x{merge}"
        " blocks that the level takes together; give a multiple, or the whole"
        " region."
    )


def cells_of(
    mask: np.ndarray, block: int, cell: int, scheme: str | Scheme = "blockwise"
) -> np.ndarray:
  """The cell of each block, int32 [rows, columns]; 0: it is not protected.

  Every block of which the mask holds a pixel is protected, and every cell of
  which it holds one is so as a whole. Cells lie on a grid from the upper left,
  and are cut off where the image ends. Of a level that takes squares of blocks
  together each region is of whole squares.

  Args:
    mask: bool [H, W] of pixels, H and W multiples of `block`.
    block: side of a block in pixels.
    cell: side of a cell in blocks; REGION: each region of blocks that touch,
      at a corner too, is one cell.
    scheme: that the image is encrypted by.

  Raises:
    UserError: for such cells as cannot be.
  """
  unit_of(scheme)
  check_cell(cell, scheme)
  rows, columns = (side // block for side in mask.shape)
  blocks = mask.reshape(rows, block, columns, block).any((1, 3))
  side = cell or squares_of(scheme)
  tall, wide = -(-rows // side), -(-columns // side)
  more = [(0, tall * side - rows), (0, wide * side - columns)]
  squares = np.pad(blocks, more).reshape(tall, side, wide, side).any((1, 3))
  if cell == REGION:
    numbers = ndimage.label(squares, np.ones((3, 3)))[0]
  else:
    numbers = squares * np.arange(1, tall * wide + 1).reshape(tall, wide)
  numbers = numbers.repeat(side, 0).repeat(side, 1)
  return numbers[:rows, :columns].astype(np.int32)


def to_text(cells: np.ndarray, cell: int) -> str:
  """What `from_text` reads: the cell and which blocks are protected.

  '' where none is.
  """
  if not cells.any():
    return ""
  packed = zlib.compress(np.packbits(cells > 0).tobytes(), 9)
  return f"{cell}:{base64.b64encode(packed).decode()}"


def from_text(text: str, rows: int, columns: int) -> np.ndarray:
  """The cells, int32 [rows, columns]; ValueError for what is no such text."""
  if not text:
    return np.zeros((rows, columns), np.int32)
  cell, _, packed = text.partition(":")
  if not (cell.isascii() and cell.isdigit() and len(cell) <= 4):
    raise ValueError("no number of a cell")
  size = -(-rows * columns // 8)
  try:
    unpack = zlib.decompressobj()
    bits = unpack.decompress(base64.b64decode(packed, validate=True), size + 1)
  except (binascii.Error, zlib.error) as error:
    raise ValueError(str(error)) from None
  if len(bits) != size or not unpack.eof:
    raise ValueError("of an image of another size")
  blocks = np.unpackbits(np.frombuffer(bits, np.uint8), count=rows * columns)
  return cells_of(blocks.reshape(rows, columns).astype(bool), 1, int(cell))


def leaks(scheme: str | Scheme, cell: int) -> str:
  """What a ciphertext with protected regions shows, in sentences."""
  scheme, unit = get_scheme(scheme), unit_of(scheme)
  where = f"cell of {cell}x{cell} blocks" if cell else "region"
  what = {
      "channel": "one histogram of each channel",
      "value": "one histogram of its values, the channels mixed",
      "pixel": "one multiset of its colours",
  }[unit]
  return (
      "Where the protected regions lie, and of what is in them no more than"
      f" {what} for each {where}. Outside: {scheme.leaks}"
  )


def encrypt(
    scheme: str | Scheme, keys: jax.Array, images: jax.Array,
    cells: jax.Array, block: int = 16,
) -> jax.Array:
  """Encrypts images whose cells are merged first.

  Args:
    scheme: its name or object.
    keys: typed keys [B] (or [] for one image).
    images: uint8 or float [B, H, W, C] (or [H, W, C]).
    cells: int32 [B, rows, columns] (or [rows, columns]), see `cells_of`.
    block: the side M of a block in pixels.

  Returns:
    Encrypted images of the same shape and dtype. In a cell their distribution
    over keys depends on the multiset of its values alone, by channel where the
    scheme shuffles channels.

  Raises:
    UserError: for an unknown scheme, or one that does not shuffle whole
      blocks, a wrong size, dtype or kind of key.
  """
  merged = merge(scheme, keys, images, cells, block)
  return cipher.encrypt(scheme, keys, merged, block)


def decrypt(
    scheme: str | Scheme, keys: jax.Array, images: jax.Array,
    cells: jax.Array, block: int = 16,
) -> jax.Array:
  """Undoes `encrypt`, to the last bit; arguments and errors alike."""
  merged = cipher.decrypt(scheme, keys, images, block)
  return _apply(scheme, keys, merged, cells, block, undo=True)


def merge(
    scheme: str | Scheme, keys: jax.Array, images: jax.Array,
    cells: jax.Array, block: int = 16,
) -> jax.Array:
  """The first half of `encrypt`: values go to places of their whole cell."""
  return _apply(scheme, keys, images, cells, block, undo=False)


def _apply(
    scheme: str | Scheme, keys: jax.Array, images: jax.Array, cells: jax.Array,
    block: int, undo: bool,
) -> jax.Array:
  unit = unit_of(scheme)
  check_images(images, block)
  cipher.check_keys(keys, images)
  _check_cells(cells, images, block)
  images = jnp.asarray(images)
  at_once = len(images) if images.ndim == 4 else 1

  def one(key: jax.Array, cells: jax.Array, image: jax.Array) -> jax.Array:
    height, width, channels = image.shape
    blocks = to_blocks(image, block).transpose(1, 0, 2)  # [N, P, C]
    rows = blocks.reshape(-1, channels)  # what moves; channels on their own
    if unit == "value":
      rows = rows.reshape(-1, 1)
    stream = Stream(
        jax.random.key_data(key), stream_number(KIND, 0), at_once
    )
    cell = jnp.repeat(cells.reshape(-1), len(rows) // cells.size)
    columns = 1 if unit == "pixel" else rows.shape[1]
    source = _sources(stream, cell, columns)  # [n, columns]
    if undo:
      place = jnp.broadcast_to(jnp.arange(len(rows))[:, None], source.shape)
      source = jnp.put_along_axis(
          jnp.zeros_like(source), source, place, axis=0, inplace=False
      )
    source = jnp.broadcast_to(source, rows.shape)
    moved = jnp.take_along_axis(rows, source, axis=0)
    moved = moved.reshape(blocks.shape).transpose(1, 0, 2)
    return from_blocks(moved, block, height, width)

  return per_image(one, keys, jnp.asarray(cells), images)


def _check_cells(cells: jax.Array, images: jax.Array, block: int) -> None:
  *batch, height, width, _ = images.shape
  wanted = (*batch, height // block, width // block)
  if cells.shape != wanted:
    raise UserError(
        f"cells of shape {cells.shape} do not fit images of shape"
        f" {images.shape}: one number for each block is needed, {wanted}."
    )


def _sources(stream: Stream, cell: jax.Array, columns: int) -> jax.Array:
  """The place each place takes its value from, int32 [n, columns].

  The places of a cell, in order, take what was at its places in the order of
  their random words: 64 bits each, or 96 in images of so many places that more
  than 2**-20 of them could be expected to tie.
  """
  n = len(cell)
  words = [stream.words(n, column_numbers(columns), draw)
           for draw in range(2 if n <= 1 << 23 else 3)]
  place = jnp.broadcast_to(jnp.arange(n)[:, None], (n, columns))
  cell = jnp.broadcast_to(cell[:, None], (n, columns))
  # What is in no cell stays: ordered by place alone.
  words[0] = jnp.where(cell > 0, words[0], place.astype(jnp.uint32))
  order = jax.lax.sort(
      (cell, *words, place), dimension=0, num_keys=1 + len(words)
  )[-1]
  slots = jnp.argsort(cell, axis=0, stable=True)
  return jnp.put_along_axis(
      jnp.zeros_like(order), slots, order, axis=0, inplace=False
  )


def deal(
    scheme: str | Scheme, image: np.ndarray, cells: np.ndarray, block: int = 16
) -> np.ndarray:
  """The image, uint8 [H, W, C], with the values of each cell dealt out.

  Sorted, they go to the cell's blocks in turn: no key is needed, and the image
  is a function of the multiset of each cell's values (of each channel where
  the scheme shuffles channels) and of what is outside. Arguments and errors as
  of `encrypt`.
  """
  unit = unit_of(scheme)
  check_images(image, block)
  _check_cells(cells, image, block)
  blocks = split(image[None], block)[0]  # [N, M, M, C]
  out = blocks.copy()
  for number in np.unique(cells[cells > 0]):
    where = np.flatnonzero(cells.ravel() == number)
    width = 1 if unit == "value" else image.shape[2]
    values = blocks[where].reshape(-1, width)
    if unit == "pixel":
      values = values[np.lexsort(values.T[::-1])]
    else:
      values = np.sort(values, axis=0)
    dealt = values.reshape(-1, len(where), width).swapaxes(0, 1)
    out[where] = dealt.reshape(blocks[where].shape)
  return join(out[None], (image.shape[0] // block, image.shape[1] // block))[0]
