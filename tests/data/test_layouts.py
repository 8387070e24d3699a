"""Public data sets, each in a tree as it is published."""

import numpy as np
import pytest
from PIL import Image

from ppseg_jax.data import spaces
from ppseg_jax.data.labels import CITYSCAPES, VOID, distinct_colour
from ppseg_jax.data.layouts import LAYOUTS, _camvid_split
from ppseg_jax.errors import UserError
from tests.data.helpers import load
from tests.helpers import photo


def save(path, pixels, mode=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = Image.fromarray(np.asarray(pixels, np.uint8), mode)
  if mode == "P":
    image.putpalette([v for i in range(256) for v in distinct_colour(i)])
  image.save(path)


def labels_of(name, folder, split="train"):
  """The train ids in the first image's labels, in order."""
  source = load(name, folder, split)
  assert len(source) == 1
  _, labels = source[0]
  return labels[0].reshape(-1, 8)[:, 0].tolist()


def row(*ids):
  """24x32 labels of four ids side by side."""
  return np.uint8(ids).repeat(8)[None].repeat(24, 0)


@pytest.mark.parametrize("name, kind, ids, found", [
    ("cityscapes", "labelIds", (26, 7, 33, 0), [13, 0, 18, VOID]),
    ("cityscapes_train_ids", "labelTrainIds", (13, 0, 18, 255),
     [13, 0, 18, VOID]),
])
def test_cityscapes_has_label_ids_or_train_ids(
    tmp_path, name, kind, ids, found
):
  stem = "ulm_000000_000019"
  save(tmp_path / "leftImg8bit/train/ulm" / f"{stem}_leftImg8bit.png",
       photo(24, 32))
  save(tmp_path / "gtFine/train/ulm" / f"{stem}_gtFine_{kind}.png", row(*ids))
  assert labels_of(name, tmp_path) == found


@pytest.mark.parametrize("inside", ["", "VOCdevkit/VOC2012"])
def test_voc2012_has_lists_and_a_border(tmp_path, inside):
  root = tmp_path / inside
  for name in ("2007_000032", "2007_000033"):
    save(root / "JPEGImages" / f"{name}.jpg", photo(24, 32))
    save(root / "SegmentationClass" / f"{name}.png", row(0, 15, 20, 255), "P")
  lists = root / "ImageSets" / "Segmentation"
  lists.mkdir(parents=True)
  (lists / "train.txt").write_text("2007_000032\n")
  (lists / "val.txt").write_text("2007_000033\n")
  assert labels_of("voc2012", tmp_path) == [0, 15, 20, VOID]
  source = load("voc2012", tmp_path, "val")
  assert [path.stem for path, _ in source.files] == ["2007_000033"]
  with pytest.raises(UserError, match=r"trainaug\.txt"):
    load("voc2012_aug", tmp_path)


@pytest.mark.parametrize("listed", [
    "2008_1\n", "/JPEGImages/2008_1.jpg /SegmentationClassAug/2008_1.png\n",
])
def test_the_augmented_list_of_voc2012_has_labels_of_its_own(tmp_path, listed):
  save(tmp_path / "JPEGImages" / "2008_1.jpg", photo(24, 32))
  save(tmp_path / "SegmentationClassAug" / "2008_1.png", row(1, 2, 3, 255))
  lists = tmp_path / "ImageSets" / "Segmentation"
  lists.mkdir(parents=True)
  (lists / "trainaug.txt").write_text(listed)
  assert labels_of("voc2012_aug", tmp_path) == [1, 2, 3, VOID]


def test_ade20k_begins_at_one_and_zero_is_void(tmp_path):
  root = tmp_path / "ADEChallengeData2016"
  save(root / "images/validation/ADE_val_00000001.jpg", photo(24, 32)[..., 0])
  save(root / "annotations/validation/ADE_val_00000001.png",
       row(0, 1, 150, 21))
  assert labels_of("ade20k", tmp_path, "val") == [VOID, 0, 149, 20]
  space = spaces.ADE20K
  assert space.num_classes == 150
  assert (space.names[0], space.names[20], space.names[149]) == (
      "wall", "car", "flag"
  )


def test_the_official_camvid_is_read_by_its_colours(tmp_path):
  shown = np.array([(128, 0, 192), (128, 64, 128), (64, 0, 128), (0, 0, 0)])
  save(tmp_path / "701_StillsRaw_full" / "0006R0_f00930.png", photo(24, 32))
  save(tmp_path / "LabeledApproved_full" / "0006R0_f00930_L.png",
       shown[row(0, 1, 2, 3)])
  kept = [spaces.CAMVID32.names.index(name)
          for name in ("LaneMkgsDriv", "Road", "Car")]
  assert labels_of("camvid32", tmp_path) == [*kept, VOID]
  assert labels_of("camvid32to11", tmp_path) == [3, 3, 8, VOID]
  assert spaces.CAMVID32.num_classes == 31


@pytest.mark.parametrize("stem, split", [
    ("0006R0_f00930", "train"), ("0001TP_006690", "train"),
    ("0001TP_008520", "train"), ("0001TP_008550", "test"),
    ("0016E5_07959", "val"), ("0016E5_08159", "val"), ("0016E5_08010", "train"),
    ("0016E5_08161", "train"), ("Seq05VD_f00000", "test"),
])
def test_camvid_is_split_as_segnet_does(stem, split):
  assert _camvid_split(stem) == split


def test_idd_lite_as_published_and_as_images_and_labels(tmp_path):
  save(tmp_path / "a/leftImg8bit/train/12/0_image.jpg", photo(24, 32))
  save(tmp_path / "a/gtFine/train/12/0_label.png", row(0, 6, 3, 255))
  save(tmp_path / "b/train/images/12_0.jpg", photo(24, 32))
  save(tmp_path / "b/train/labels/12_0.png", row(0, 6, 3, 255))
  for folder in "ab":
    assert labels_of("idd_lite", tmp_path / folder) == [0, 6, 3, VOID]


def test_kvasir_seg_has_two_classes_and_no_void(tmp_path):
  save(tmp_path / "train/images/x.jpg", photo(24, 32))
  save(tmp_path / "train/labels/x.png", row(0, 1, 0, 1))
  assert labels_of("kvasir_seg", tmp_path) == [0, 1, 0, 1]


def test_faces_have_six_classes_and_void_where_colours_were_smoothed(tmp_path):
  save(tmp_path / "train/images/x.jpg", photo(24, 32))
  save(tmp_path / "train/labels/x.png", row(0, 5, 2, 255))
  assert labels_of("fasseg_faces", tmp_path) == [0, 5, 2, VOID]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_that_is_not_there_is_said_so(tmp_path, name):
  with pytest.raises(UserError, match="data.dir="):
    load(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_label_space_is_sound(name):
  space, _ = LAYOUTS[name]
  assert len(space.names) == len(space.colours) == len(set(space.names))
  assert len(set(space.colours)) == len(space.colours)
  used = set(space.raw_to_train.values()) - {VOID}
  assert used == set(range(space.num_classes))


def test_voc_colours_are_those_of_its_development_kit():
  known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128),
           20: (0, 64, 128), 255: (224, 224, 192)}
  assert {i: distinct_colour(i) for i in known} == known
  assert len({distinct_colour(i) for i in range(256)}) == 256


@pytest.mark.parametrize("pair", spaces.MAPS)
def test_each_map_names_classes_of_both_spaces(pair):
  known = {space.name: set(space.names) for space, _ in LAYOUTS.values()}
  assert known["cityscapes"] == set(CITYSCAPES.names)
  one, other = pair
  assert set(spaces.MAPS[pair]) <= known[one]
  assert set(spaces.MAPS[pair].values()) <= known[other]
