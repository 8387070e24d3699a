"""What of each picture is protected: boxes, masks, or what is found in it.

A file of boxes is JSON. It names each picture by its path in its folder, with
slashes, and gives the boxes [left, top, right, bottom] in pixels of the picture
as it is looked at, right and bottom exclusive:

    {"street/a.jpg": [[120, 40, 180, 110]], "street/b.jpg": []}

A folder of masks has for each picture a PNG of the same path and size, whose
values other than 0 are protected. A picture that has neither is refused, so
that none is sent unprotected by mistake.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path, PurePath

import numpy as np

from ppseg_jax import pictures
from ppseg_jax.client import detect
from ppseg_jax.data.label_files import read_values
from ppseg_jax.encryption import Scheme, regions
from ppseg_jax.errors import UserError

FACES = "faces"
CELLS = {"2": 2, "4": 4, "8": 8, "region": regions.REGION}


@dataclasses.dataclass(frozen=True)
class Protection:
  """What is protected, and in what cells.

  Attributes:
    find: (path of a picture in its folder, its values uint8 [H, W, C]) -> bool
      [H, W]; raises UserError for a picture of which nothing is known.
    cell: side of a cell in blocks, or `regions.REGION`.
    said: what it is, in a word, for whoever compares two runs.
  """

  find: Callable[[PurePath, np.ndarray], np.ndarray]
  cell: int
  said: str

  def cells(
      self, mask: np.ndarray, size: tuple[int, int], units: tuple[int, ...],
      block: int, scheme: Scheme,
  ) -> np.ndarray:
    """The cell of each block of a picture as it is encrypted.

    Args:
      mask: bool [H, W], of `find`.
      size: (height, width) that the picture is resized to.
      units: that it is padded to then, in turn: whole blocks first, and then
        by copies of whole blocks, which are of the cell of what they copy.
      block: side of a block in pixels.
      scheme: that it is encrypted by.

    Returns:
      int32 [rows, columns].
    """
    # Padding repeats pixels of the picture, protected ones as well.
    mask = pictures.pad(resized(mask, size)[..., None], units[0])
    cells = regions.cells_of(mask[..., 0], block, self.cell, scheme)[..., None]
    for unit in units[1:]:
      cells = pictures.pad(cells, unit // block)
    return cells[..., 0]


def read(what: str, cell: str) -> Protection:
  """What `--protect` and `--protect-cell` say.

  Raises UserError for what is no such file or folder, and where what finds
  faces is not installed.
  """
  if cell not in CELLS:
    raise UserError(f"--protect-cell={cell} is none of {', '.join(CELLS)}.")
  path = Path(what).expanduser()
  if what == FACES:
    detect.check_installed()
    return Protection(
        _found, CELLS[cell], f"{FACES} by {detect.version()}, cell {cell}"
    )
  if path.is_dir():
    return Protection(
        lambda name, image: _of_mask(path / name.with_suffix(".png"), image),
        CELLS[cell], f"masks {_digest(path)}, cell {cell}",
    )
  try:
    content = path.read_bytes()
  except OSError as error:
    raise UserError(
        f"--protect={what} cannot be read ({error.strerror}); give a file of"
        f" boxes, a folder of masks, or {FACES}."
    ) from None
  boxes = _boxes(content, what)

  def given(name: PurePath, image: np.ndarray) -> np.ndarray:
    if name.as_posix() not in boxes:
      raise UserError(
          f"--protect={what} does not name it; give its boxes, or [] where"
          " nothing is to be protected."
      )
    return of_boxes(boxes[name.as_posix()], image.shape[:2])

  digest = hashlib.sha256(content).hexdigest()
  return Protection(given, CELLS[cell], f"boxes {digest}, cell {cell}")


def _found(name: PurePath, image: np.ndarray) -> np.ndarray:
  return of_boxes(detect.boxes(image), image.shape[:2])


def _digest(folder: Path) -> str:
  """SHA-256 of a folder's masks, their names and bytes."""
  found = hashlib.sha256()
  try:
    for path in sorted(folder.rglob("*.png")):
      content = hashlib.sha256(path.read_bytes()).hexdigest()
      found.update(f"{content} {path.relative_to(folder)}\n".encode())
  except OSError as error:
    raise UserError(
        f"--protect={folder}: a mask cannot be read ({error.strerror})."
    ) from None
  return found.hexdigest()


def _of_mask(path: Path, image: np.ndarray) -> np.ndarray:
  values, _ = read_values(path, coloured=True)
  if values.shape[:2] != image.shape[:2]:
    raise UserError(
        f"{path} is a mask of {values.shape[1]}x{values.shape[0]} pixels, and"
        f" the picture has {image.shape[1]}x{image.shape[0]}; mend the pair."
    )
  return (values > 0).reshape(*image.shape[:2], -1).any(2)


def each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
  """Of JSON that names pictures; ValueError where it names one twice."""
  names = [name for name, _ in pairs]
  if len(set(names)) < len(names):
    raise ValueError("it names a picture twice")
  return dict(pairs)


def _boxes(content: bytes, what: str) -> dict[str, list]:
  try:
    found = json.loads(content, object_pairs_hook=each_once)
    for name, boxes in found.items():
      if type(boxes) is not list:
        raise ValueError(f"{name}: {boxes} is no list")
      for box in boxes:
        left, top, right, bottom = box
        if not all(type(x) in (int, float) and math.isfinite(x) for x in box):
          raise ValueError(f"{name}: {box}")
        if not (left < right and top < bottom):
          raise ValueError(f"{name}: {box}")
  except (ValueError, TypeError, AttributeError, OverflowError,
          RecursionError) as error:
    raise UserError(
        f"--protect={what} is no file of boxes ({error}); it must be JSON like"
        ' {"a.jpg": [[left, top, right, bottom]]}.'
    ) from None
  return found


def of_boxes(boxes: list, size: tuple[int, int]) -> np.ndarray:
  """The mask, bool [H, W], of all pixels that a box touches.

  Raises UserError for a box outside the picture.
  """
  height, width = size
  mask = np.zeros(size, bool)
  for left, top, right, bottom in boxes:
    if left >= width or top >= height or right <= 0 or bottom <= 0:
      raise UserError(
          f"the box {[left, top, right, bottom]} lies outside its {width}x"
          f"{height} pixels; boxes are [left, top, right, bottom]."
      )
    mask[max(math.floor(top), 0) : math.ceil(bottom),
         max(math.floor(left), 0) : math.ceil(right)] = True
  return mask


def resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """The mask of a picture that was resized (bilinear), bool [height, width].

  True where a pixel was made with any protected one.
  """
  for axis, wanted in enumerate(size):
    own = mask.shape[axis]
    if own == wanted:
      continue
    scale = own / wanted
    reach = max(scale, 1.0)  # of the filter, on both sides of a pixel's middle
    middles = (np.arange(wanted) + 0.5) * scale
    first = np.clip(np.floor(middles - reach), 0, own - 1).astype(int)
    last = np.clip(np.ceil(middles + reach), 1, own).astype(int)
    mask = np.stack([
        mask.take(range(a, b), axis).any(axis)
        for a, b in zip(first, last, strict=True)
    ], axis)
  return mask
