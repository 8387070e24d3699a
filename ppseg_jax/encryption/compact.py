"""What a level leaves of a picture, in few bytes.

An image that carries a level holds each of its numbers many times, in a random
order where it is a ciphertext. Here each is written once: a function of the
very value that a ciphertext under a key used once shows, so that it shows the
same, and takes no key. It is read back to the image that `release` gives.

A header of 22 bytes, big-endian: "PPSL", version (1), unit (0: each channel on
its own, 1: all values together), filter, bits of a number; then of 16 bits the
level's merge and groups (0: all values) and the block size; of 32 bits height
and width. Then a zlib stream of one byte for each number; they are ascending
in each unit. Number g of channel c (0 alone for unit 1) of the square of blocks
in row y and column x is told by differences modulo 2^bits, of the first along
an axis to 0, that are taken one after another:

    filter 0   along g; bytes in the order y, x, c, g
    filter 1   channels 0 and 2 to channel 1; along g; along x; in order
    filter 2   as 1, and along y
"""

import dataclasses
import math
import struct
import zlib

import numpy as np

from ppseg_jax.encryption.levels import Level
from ppseg_jax.encryption.ops import PixelShuffle
from ppseg_jax.encryption.schemes import Scheme, get_scheme
from ppseg_jax.errors import UserError

KIND = "application/x-ppseg-level"  # content type
_MAGIC, _VERSION = b"PPSL", 1
_HEADER = struct.Struct(">4s4B3H2I")
_UNITS = ("channel", "value")
_FILTERS = range(3)
_CHANNELS = 3
_LARGEST = 1 << 20  # pixels of a side


@dataclasses.dataclass(frozen=True)
class Head:
  """What stands before the numbers.

  Attributes:
    level: whose value it is.
    block: side of a block in pixels.
    size: (height, width) of the image in pixels.
    filter: how the numbers are written.
  """

  level: Level
  block: int
  size: tuple[int, int]
  filter: int

  @property
  def side(self) -> int:
    """Of a square of blocks in pixels."""
    return self.block * self.level.merge

  @property
  def length(self) -> int:
    """How many values a unit has."""
    return self.side**2 * (1 if self.level.unit == "channel" else _CHANNELS)

  @property
  def shape(self) -> tuple[int, int, int, int]:
    """Numbers of a unit, channels, rows and columns of squares."""
    return (
        self.level.groups or self.length,
        _CHANNELS if self.level.unit == "channel" else 1,
        *(extent // self.side for extent in self.size),
    )


def level_of(scheme: str | Scheme) -> Level:
  """The level that a scheme leaves; UserError for one that is no level."""
  scheme = get_scheme(scheme)
  match scheme.ops:
    case (Level() as level, PixelShuffle()):
      return level
    case (PixelShuffle(unit=("channel" | "value") as unit, scope="block",
                       cell=0, fraction=1),):
      return Level(unit)
  raise UserError(
      f"scheme '{scheme.name}' has no compact form; blockwise and"
      " blockwise_value have, and their levels."
  )


def encode(
    scheme: str | Scheme, image: np.ndarray, block: int = 16
) -> bytes:
  """The bytes of an image, uint8 [H, W, 3], that carries a level.

  It is what `representative(scheme, ...)` or `release` gives, and `decode`
  gives it back. UserError for an image that carries more.
  """
  level = level_of(scheme)
  head = Head(level, block, image.shape[:2], 0)
  if image.dtype != np.uint8 or image.shape[2:] != (_CHANNELS,) or any(
      extent % head.side or not extent for extent in head.size
  ):
    raise UserError(
        f"a compact form needs uint8 [H, W, 3] of whole blocks, not"
        f" {image.dtype} {image.shape}."
    )
  m, k = block, level.merge
  rows, columns = head.shape[2:]
  units = image.reshape(rows, k, m, columns, k, m, _CHANNELS)
  units = units.transpose(2, 5, 1, 4, 6, 0, 3)  # [M, M, k, k, C, rows, columns]
  units = units.reshape(head.length, -1, rows, columns)
  numbers = units[:: head.length // head.shape[0]] >> (8 - level.bits)
  if not np.array_equal(_image(numbers, head), image):
    raise UserError(
        f"the image carries more than level '{level}' leaves; release it first."
    )
  return min((
      _pack(dataclasses.replace(head, filter=way), numbers)
      for way in _FILTERS
  ), key=len)


def read_head(body: bytes) -> Head:
  """The head of a compact form; UserError for what cannot be one."""
  if len(body) < _HEADER.size or not body.startswith(_MAGIC):
    raise UserError("The body is no compact form of a picture.")
  (_, version, unit, way, bits, merge, groups, block, height, width) = (
      _HEADER.unpack(body[: _HEADER.size])
  )
  if version != _VERSION:
    raise UserError("The compact form is of another version than 1.")
  known = unit < len(_UNITS) and way in _FILTERS and 1 <= bits <= 8
  side = block * merge
  if not known or not side or not all(
      0 < extent <= _LARGEST and extent % side == 0
      for extent in (height, width)
  ):
    raise UserError("The compact form has a damaged header.")
  head = Head(Level(_UNITS[unit], merge, groups, bits), block,
              (height, width), way)
  if groups and head.length % groups:
    raise UserError("The compact form has a damaged header.")
  return head


def decode(body: bytes) -> np.ndarray:
  """The image that carries the level, uint8 [H, W, 3].

  No more is unpacked than the head says that there is; who reads what others
  send looks at `read_head` first, whether the size is one to take.

  Raises UserError for anything that `encode` does not write.
  """
  head = read_head(body)
  count = math.prod(head.shape)
  unpack = zlib.decompressobj()
  try:
    content = unpack.decompress(body[_HEADER.size :], count + 1)
  except zlib.error:
    content = b""
  if len(content) != count or not unpack.eof or unpack.unused_data:
    raise UserError("The compact form is damaged or cut short.")
  values = np.frombuffer(content, np.uint8)
  g, c, rows, columns = head.shape
  if head.filter == 0:
    values = values.reshape(rows, columns, c, g).transpose(3, 2, 0, 1)
  else:
    values = values.reshape(head.shape)
    for axis in (2, 3)[2 - head.filter :]:
      values = np.cumsum(values, axis, np.uint8)
  values = np.cumsum(values, 0, np.uint8)  # modulo 2^8, and so modulo 2^bits
  if head.filter and c == _CHANNELS:
    values[:, ::2] += values[:, 1:2]
  if content and (np.frombuffer(content, np.uint8) >> head.level.bits).any():
    raise UserError("The compact form holds larger numbers than it says.")
  values &= (1 << head.level.bits) - 1
  if (values[1:] < values[:-1]).any():
    raise UserError("The compact form holds numbers that are not sorted.")
  return _image(values, head)


def _pack(head: Head, numbers: np.ndarray) -> bytes:
  """The bytes of numbers, uint8 [G, C, rows, columns]."""
  level, way = head.level, head.filter
  values = numbers.copy()
  if way and values.shape[1] == _CHANNELS:
    values[:, ::2] -= values[:, 1:2]
  for axis in (0, 3, 2)[: 1 + way]:
    first = np.zeros_like(values.take([0], axis))
    values = np.diff(values, axis=axis, prepend=first)
  values &= (1 << level.bits) - 1
  if way == 0:
    values = values.transpose(2, 3, 1, 0)
  return _HEADER.pack(
      _MAGIC, _VERSION, _UNITS.index(level.unit), way, level.bits, level.merge,
      level.groups, head.block, *head.size,
  ) + zlib.compress(np.ascontiguousarray(values).tobytes(), 9)


def _image(numbers: np.ndarray, head: Head) -> np.ndarray:
  """uint8 [H, W, 3], each number in as many places as it stands for."""
  low = 8 - head.level.bits
  values = numbers << low | (1 << low >> 1)
  values = values.repeat(head.length // len(values), 0)
  m, k = head.block, head.level.merge
  values = values.reshape(m, m, k, k, _CHANNELS, *head.shape[2:])
  return values.transpose(5, 2, 0, 6, 3, 1, 4).reshape(*head.size, _CHANNELS)
