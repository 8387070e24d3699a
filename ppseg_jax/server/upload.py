"""The picture of a request: looked at before anything of it is unpacked.

It is a PNG or a compact form (`encryption.compact`). Of PNGs 8-bit grey and RGB
pictures without interlacing are taken, whose true size stands in the first 33
bytes. Of the rest only the compressed pixels go on to the decoder: text,
profiles and whatever else a PNG may hold is never unpacked.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from ppseg_jax.encryption import Scheme, compact
from ppseg_jax.errors import UserError
from ppseg_jax.server.refusal import Refused

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
_MODES = {0: "L", 2: "RGB"}  # by colour type
# What changes how pixels are read, or says that there are several pictures.
_MORE = {b"tRNS": "has transparency", b"acTL": "holds several pictures",
         b"eXIf": "says how to turn it"}
_CHUNKS = 10_000

Size = tuple[int, int]  # (height, width)


def compact_size(body: bytes, scheme: Scheme, block: int) -> Size:
  """(height, width) by the head of a compact form.

  Raises Refused for what is none, or not of a level of the scheme.
  """
  try:
    head = compact.read_head(body)
  except UserError as error:
    raise Refused(400, str(error)) from None
  if (head.level.unit, head.block) != (compact.level_of(scheme).unit, block):
    raise Refused(
        409, f"The compact form is not of '{scheme.name}' in blocks of {block}."
    )
  return head.size


def decode_compact(body: bytes) -> np.ndarray:
  """The image that carries the level, uint8 [H, W, 3].

  `compact_size` must have taken it, and its size must be one that may be
  decoded. Raises Refused for a damaged body.
  """
  try:
    return compact.decode(body)
  except UserError as error:
    raise Refused(400, str(error)) from None


def size_of(body: bytes) -> Size:
  """(height, width) by the header.

  Raises Refused for what is no PNG, or none of the kinds that are taken.
  """
  if not body.startswith(_SIGNATURE):
    raise Refused(415, "The body is not a PNG picture.")
  header = body[16:29]
  if body[8:16] != b"\0\0\0\rIHDR" or not _is_sound(body[12:33]):
    raise Refused(400, "The PNG has a damaged header.")
  width, height, depth, colour, method, filters, interlaced = (
      _HEADER.unpack(header)
  )
  if depth != 8 or colour not in _MODES:
    raise Refused(
        415, "The PNG must be 8-bit RGB or grey, without palette and"
        " transparency."
    )
  if method or filters or not 0 < width < 2**31 or not 0 < height < 2**31:
    raise Refused(400, "The PNG has a damaged header.")
  if interlaced:
    raise Refused(415, "The PNG is interlaced; write it without.")
  return height, width


def decode(body: bytes) -> np.ndarray:
  """uint8 [H, W, 3]; of a grey picture three equal channels.

  `size_of` must have taken it, and its size must be one that may be decoded.
  Raises Refused for a damaged body.
  """
  try:
    with Image.open(io.BytesIO(_bare(body)), formats=("PNG",)) as image:
      image.load()
      pixels = np.asarray(image)
  except Refused:
    raise
  except Exception:  # decoders of damaged files raise anything
    raise Refused(400, "The PNG is damaged or cut short.") from None
  return np.broadcast_to(
      pixels if pixels.ndim == 3 else pixels[..., None], (*pixels.shape[:2], 3)
  )


def _bare(body: bytes) -> bytes:
  """The same picture, of its header, its pixels and its end alone."""
  kept, at, ended = [body[:33]], 33, False
  for _ in range(_CHUNKS):
    length = int.from_bytes(body[at : at + 4])
    kind, end = body[at + 4 : at + 8], at + 12 + length
    if len(kind) < 4 or end > len(body):
      break
    if kind in _MORE:
      raise Refused(415, f"The PNG {_MORE[kind]}, and only pixels are taken.")
    if kind in (b"IDAT", b"IEND"):
      # Pillow does not look at the checksums of these.
      if not _is_sound(body[at + 4 : end]):
        break
      kept.append(body[at:end])
    elif kind[0] < ord("a") and kind != b"PLTE":  # needed to read the pixels
      break
    at = end
    if kind == b"IEND":
      ended = True
      break
  if not ended:
    raise Refused(400, "The PNG is damaged or cut short.")
  return b"".join(kept)


def _is_sound(chunk: bytes) -> bool:
  """Whether the last four bytes are the checksum of those before."""
  return zlib.crc32(chunk[:-4]) == int.from_bytes(chunk[-4:])
