"""Data sets of files: pairs of an image and its labels."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppseg_jax.data.label_files import Palettes, read_labels
from ppseg_jax.data.labels import LabelSpace
from ppseg_jax.errors import UserError
from ppseg_jax.pictures import is_picture, read_rgb

# (image uint8 [H, W, 3], train ids uint8 [H, W]) -> the same, of other sizes.
Fit = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Found(NamedTuple):
  """The files of a split: (image, labels) each; how many others there are."""

  pairs: list[tuple[Path, Path]]
  skipped: int = 0


class Folder:
  """Pairs of image and label files, fitted to what reads them.

  Attributes:
    label_space: of the labels.
    files: (image, labels), the two paths of each example.
    skipped: how many other files lie among the images.
  """

  def __init__(self, found: Found, label_space: LabelSpace, fit: Fit):
    self.label_space = label_space
    self.files, self.skipped = found
    self._fit = fit
    self._palettes = Palettes()

  def __len__(self) -> int:
    return len(self.files)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    """(image uint8 [H, W, 3], labels uint8 [H, W] of train ids).

    Raises UserError for a file that is missing, not an image, not of the
    other's size, with label ids outside the label space, or with another
    colour palette than the label files before it.
    """
    image, labels, palette = read_pair(*self.files[index], self.label_space)
    label_path = self.files[index][1]
    self._palettes.check(label_path, palette)
    # Checked before resizing, which may drop the very pixels that are wrong.
    labels = self.label_space.to_train_ids(labels, str(label_path))
    return self._fit(image, labels)


def read_pair(
    image_path: Path, label_path: Path, space: LabelSpace | None = None
) -> tuple[np.ndarray, np.ndarray, bytes | None]:
  """(image uint8 [H, W, 3], raw ids uint8 [H, W], palette) of two files.

  The palette is that of `read_labels`. Raises UserError for a file that is not
  taken, or where the two are not of one size.
  """
  image = read_rgb(image_path)
  labels, palette = read_labels(label_path, space)
  if image.shape[:2] != labels.shape:
    raise UserError(
        f"{label_path}: labels of {labels.shape[1]}x{labels.shape[0]} pixels do"
        f" not fit the image of {image.shape[1]}x{image.shape[0]},"
        f" {image_path}; mend the pair."
    )
  return image, labels, palette


def pictures_below(folder: Path) -> tuple[list[Path], int]:
  """(the pictures in a folder and its subfolders, how many files are none).

  Sorted. Hidden files and folders, whose names begin with a dot, are no
  pictures.
  """
  found, others, seen = [], 0, set()
  for here, folders, names in os.walk(folder, followlinks=True):
    real = os.path.realpath(here)
    if real in seen:  # a link to a folder above it
      folders.clear()
      continue
    seen.add(real)
    folders[:] = [name for name in folders if not name.startswith(".")]
    for name in names:
      path = Path(here, name)
      if not name.startswith(".") and path.is_file() and is_picture(path):
        found.append(path)
      else:
        others += 1
  return sorted(found), others


def by_names(images: Path, labels: Path) -> Found:
  """Pairs of equal paths below two folders, suffixes apart.

  An image without labels is paired with a file that is missing, which reading
  reports. Raises UserError where two files of a folder differ by suffix alone.
  """
  pictures, others = pictures_below(images)
  _by_stem(images, pictures)
  have = _by_stem(labels, pictures_below(labels)[0])
  return Found([
      (path, have.get(stem := _stem(images, path), labels / f"{stem}.png"))
      for path in pictures
  ], others)


def _stem(folder: Path, path: Path) -> str:
  return path.relative_to(folder).with_suffix("").as_posix()


def _by_stem(folder: Path, paths: list[Path]) -> dict[str, Path]:
  stems = {}
  for path in paths:
    other = stems.setdefault(_stem(folder, path), path)
    if other is not path:
      raise UserError(
          f"{other} and {path} differ by their suffix alone, so that it is"
          " unclear which is meant; remove one."
      )
  return stems


def split_folder(root: Path, split: str, what: str) -> Found:
  """The pairs of `root/<split>`, in `images` and `labels`.

  Paired by name, or by the lines of `root/<split>/pairs.csv` under the heading
  `image,label`, paths from there. `what` says in an error what belongs there.
  """
  folder = root / split
  if (folder / "pairs.csv").is_file():
    return Found(_listed(folder / "pairs.csv"))
  if not (folder / "images").is_dir():
    raise UserError(
        f"data.dir='{root}' has no folder {split}/images; put {what} there as"
        " train/images, train/labels, val/images, val/labels and give its path"
        " with --config.data.dir=."
    )
  return by_names(folder / "images", folder / "labels")


def _listed(path: Path) -> list[tuple[Path, Path]]:
  try:
    # Of spreadsheets some begin with a byte order mark.
    with path.open(newline="", encoding="utf-8-sig") as file:
      rows = list(csv.DictReader(file))
  except (UnicodeDecodeError, csv.Error):
    raise UserError(f"{path} is no CSV file in UTF-8; save it again.") from None
  pairs = []
  for number, row in enumerate(rows, 2):
    names = row.get("image"), row.get("label")
    if not all(names):
      raise UserError(
          f"{path}, line {number} names no image and label; the first line must"
          " be 'image,label', and each other one hold two paths from there."
      )
    pairs.append(tuple(path.parent / name for name in names))
  return pairs
