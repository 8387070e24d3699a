"""What a server answers, read without trust: it must fit what was asked."""

import io

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from ppseg_jax import pictures
from ppseg_jax.errors import UserError

_NPY_HEADER = 4096  # bytes


def labels_bytes(height: int, width: int) -> int:
  """What a palette PNG of that size has at most: deflate adds 5 bytes in 16383.
  """
  return height * (width + 1) * 101 // 100 + (1 << 16)


def read_labels(
    content: bytes, height: int, width: int, classes: int, void: int
) -> np.ndarray:
  """The class ids of a PNG, uint8 [height, width].

  Its header is looked at first, and a picture of another size is not decoded.
  Raises UserError for anything but an 8-bit grey or a palette PNG of that size
  whose values are classes or void.
  """
  try:
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
      if image.size != (width, height) or image.mode not in ("L", "P") or (
          pictures.is_shallow(image)
      ):
        raise UserError(
            f"the server answers with a PNG of {image.width}x{image.height} in"
            f" mode {image.mode}, and not with class ids of {width}x{height}."
        )
      image.load()
      ids = np.asarray(image)
  except UserError:
    raise
  except Exception:  # decoders of damaged files raise anything
    raise UserError("the server answers with a damaged PNG.") from None
  if ((ids >= classes) & (ids != void)).any():
    raise UserError(
        f"the server answers with class {ids[ids != void].max()}, and says"
        f" itself that it has {classes} classes, from 0."
    )
  return ids


def logits_bytes(shape: tuple[int, int, int]) -> int:
  """What an .npy of float16 of that shape has at most."""
  return 2 * int(np.prod(shape)) + _NPY_HEADER


def read_logits(content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
  """The float16 logits of an .npy of that shape [h, w, K], as float32.

  Raises UserError for any other shape or type, and for values that are not
  finite.
  """
  file = io.BytesIO(content)
  try:
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0,
            (2, 0): npy.read_array_header_2_0}[version]
    found, fortran, dtype = read(file, max_header_size=_NPY_HEADER)
  except Exception:  # numpy parses the header as Python
    raise UserError("the server answers with a damaged .npy.") from None
  rest = content[file.tell():]
  if (found, fortran, dtype) != (shape, False, np.dtype("<f2")) or (
      len(rest) != 2 * np.prod(shape)
  ):
    raise UserError(
        f"the server answers with values {found} of type {dtype}, and not with"
        f" float16 logits {shape}."
    )
  logits = np.frombuffer(rest, "<f2").reshape(shape).astype(np.float32)
  if not np.isfinite(logits).all():
    raise UserError("the server answers with logits that are no numbers.")
  return logits
