"""Label files: one class id a pixel, read as the file holds it.

Taken are 8-bit grey files, whose values are the ids, palette files, whose
indices are, and RGB files, where the label space says which colour is which
id. A palette says by its colours what an index means, so the files of a data
set must agree on it. What a reader would scale or convert on the way
(fewer than 8 bits of grey, 16 bits, lossy compression) is refused.
"""

import threading
from pathlib import Path

import numpy as np
from PIL import Image

from ppseg_jax import pictures
from ppseg_jax.data.labels import LabelSpace
from ppseg_jax.errors import UserError

_WANTED = "label files hold one class id a pixel, as 8-bit grey or a palette"
_COLOURED = (
    f"holds colours, but {_WANTED}; give each colour its id and save the ids as"
    " an 8-bit grey PNG, or declare the colours (data.name=folder)."
)
_REFUSED = {  # by mode
    "1": "holds one bit a pixel, which is read as 0 and 255 and not as ids;"
         " save it as 8-bit grey, in Python"
         " Image.fromarray(numpy.asarray(image).astype('uint8')).",
    "RGB": _COLOURED, "RGBA": _COLOURED, "CMYK": _COLOURED,
    "I;16": f"holds 16 bits a pixel, as instance ids do, but {_WANTED}; convert"
            " it to class ids.",
}


def read_labels(
    path: Path, space: LabelSpace | None = None
) -> tuple[np.ndarray, bytes | None]:
  """(raw ids uint8 [H, W], the palette's RGB RGB ... or None).

  Colours are read as ids where `space` has `raw_colours`.

  Raises UserError, with the path, for a file that does not hold ids as they
  are, and for colours outside the space.
  """
  coloured = bool(space and space.raw_colours)
  values, palette = read_values(path, coloured)
  if values.ndim == 3:
    values = space.ids_of_colours(values, str(path))
  return values, palette


def read_values(
    path: Path, coloured: bool
) -> tuple[np.ndarray, bytes | None]:
  """What a label file holds, and the palette's RGB RGB ... or None.

  That is ids, uint8 [H, W], or, where `coloured` says that they are taken,
  colours, uint8 [H, W, 3]. An EXIF orientation is applied, as it is to
  pictures. Raises UserError, with the path, for a file that is not taken.
  """
  try:
    lossy = pictures.is_lossy(path)
    with pictures.opened(path) as image:
      reason = _refusal(image, lossy, coloured)
      if reason:
        raise UserError(reason)
      values = pictures.decoded(image)
      palette = bytes(image.getpalette()) if image.mode == "P" else None
      return values, palette
  except UserError as error:
    raise UserError(f"{path} {error}") from None


def _refusal(image: Image.Image, lossy: bool, coloured: bool) -> str | None:
  """Why a label file is not taken, before it is loaded."""
  if image.format not in pictures.FORMATS:
    return f"is a {image.format} file; save the labels as an 8-bit grey PNG."
  if image.mode not in ("L", "P", *(("RGB",) if coloured else ())):
    return _REFUSED.get(
        image.mode, f"has mode {image.mode}, but {_WANTED}; convert it."
    )
  if image.mode == "RGB" and ";16" in str(image.tile):  # read as 8 bits
    return "holds 16 bits a value; save it as 8-bit RGB."
  if image.mode == "RGB" and "transparency" in image.info:
    return "has transparency; save it as plain RGB."
  if lossy:
    return (f"is a lossy {image.format} file, which changes ids; make the"
            " labels again as an 8-bit grey PNG.")
  if image.mode == "L" and pictures.is_shallow(image):
    bits = 2 if "L;2" in str(image.tile) else 4
    spread = 255 // (2**bits - 1)
    return (
        f"holds {bits}-bit grey, whose ids are read as multiples of {spread};"
        " save it as 8-bit grey, in Python Image.fromarray(numpy.asarray(image)"
        f" // {spread})."
    )
  return None


class Palettes:
  """Refuses a palette that gives an index another colour than those before.

  Where one palette is longer than another, what both have must agree. Grey
  files claim nothing. May be called from several threads.
  """

  def __init__(self):
    self._lock = threading.Lock()
    self._longest: tuple[Path, bytes] | None = None

  def check(self, path: Path, palette: bytes | None) -> None:
    """Raises UserError, naming both files, where they disagree."""
    if palette is None:
      return
    with self._lock:
      other, known = self._longest = self._longest or (path, palette)
      if len(palette) > len(known):
        self._longest = path, palette
    shared = min(len(palette), len(known))
    if palette[:shared] == known[:shared]:
      return
    index = next(i for i in range(0, shared, 3)
                 if palette[i : i + 3] != known[i : i + 3])
    raise UserError(
        f"{path} has another colour palette than {other}: index {index // 3} is"
        f" {tuple(palette[index : index + 3])} here and"
        f" {tuple(known[index : index + 3])} there, so that it means different"
        " classes; save all label files with one palette, or as 8-bit grey of"
        " class ids."
    )
