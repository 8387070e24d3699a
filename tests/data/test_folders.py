"""Data sets in folders: pairs, sizes, ids and what is refused."""

import numpy as np
import pytest
from PIL import Image

from ppseg_jax.data.labels import CAMVID, CITYSCAPES, VOID
from ppseg_jax.errors import UserError
from tests.data.helpers import load
from tests.helpers import photo, write_camvid


def test_camvid_folder_gives_images_and_labels_of_the_asked_size(tmp_path):
  source = load("camvid", write_camvid(tmp_path))
  image, labels = source[1]
  assert len(source) == 3 and source.label_space is CAMVID
  assert image.shape == (24, 32, 3) and image.dtype == np.uint8
  assert labels.shape == (24, 32) and set(np.unique(labels)) <= {
      *range(11), VOID
  }


def test_cityscapes_folder_maps_label_ids_to_train_ids(tmp_path):
  for kind, name in (("leftImg8bit", "leftImg8bit"), ("gtFine", "labelIds")):
    city = tmp_path / kind / "val" / "ulm"
    city.mkdir(parents=True)
    stem = "ulm_000000_000019_" + ("gtFine_" if kind == "gtFine" else "")
    shape = (16, 32) if kind == "gtFine" else (16, 32, 3)
    picture = Image.fromarray(np.full(shape, 26, np.uint8))
    picture.save(city / f"{stem}{name}.png")
  source = load("cityscapes", tmp_path, "val")
  image, labels = source[0]
  assert len(source) == 1 and (labels == CITYSCAPES.names.index("car")).all()
  with pytest.raises(UserError, match="leftImg8bit_trainvaltest.zip"):
    load("cityscapes", tmp_path)


@pytest.mark.parametrize("spoil, message", [
    (lambda image, labels: image.write_bytes(b"no image"), "not a readable"),
    (lambda image, labels: image.write_bytes(image.read_bytes()[:300]),
     "not a readable"),
    (lambda image, labels: labels.unlink(), "is missing"),
    (lambda image, labels: Image.new("RGB", (80, 60)).save(labels),
     "holds colours"),
    (lambda image, labels: Image.new("L", (8, 8)).save(labels), "do not fit"),
    (lambda image, labels: Image.new("L", (80, 60), 77).save(labels), "77"),
])
def test_spoilt_files_are_named(tmp_path, spoil, message):
  write_camvid(tmp_path)
  image = tmp_path / "train" / "images" / "001.png"
  labels = tmp_path / "train" / "labels" / "001.png"
  spoil(image, labels)
  source = load("camvid", tmp_path)
  with pytest.raises(UserError, match=message) as caught:
    source[1]
  assert "001.png" in str(caught.value)


def test_an_images_exif_orientation_agrees_with_its_labels(tmp_path):
  write_camvid(tmp_path, 1)
  labels = np.zeros((60, 80), np.uint8)
  labels[:20] = 3
  upright = np.repeat(np.where(labels == 3, 0, 255)[..., None], 3, 2)
  image = Image.fromarray(np.rot90(upright, 2).astype(np.uint8))
  exif = image.getexif()
  exif[0x0112] = 3  # upside down
  image.save(tmp_path / "train" / "images" / "000.png", exif=exif)
  Image.fromarray(labels).save(tmp_path / "train" / "labels" / "000.png")
  image, ids = load("camvid", tmp_path, height=60, width=80)[0]
  np.testing.assert_array_equal(image[..., 0] > 128, ids == 0)


def test_files_that_are_no_pictures_are_skipped_and_counted(tmp_path):
  images = write_camvid(tmp_path) / "train" / "images"
  for name in ("Thumbs.db", "._000.png", ".DS_Store"):
    (images / name).write_bytes(b"\xd0\xcf\x11\xe0 nothing")
  source = load("camvid", tmp_path)
  assert len(source) == 3 and source.skipped == 3


def test_hidden_files_are_no_images_of_cityscapes(tmp_path):
  city = tmp_path / "leftImg8bit" / "val" / "ulm"
  city.mkdir(parents=True)
  (tmp_path / "gtFine" / "val").mkdir(parents=True)
  (city / "._ulm_1_1_leftImg8bit.png").write_bytes(b"?")
  with pytest.raises(UserError, match="holds no images"):
    load("cityscapes", tmp_path, "val")


def test_palettes_that_differ_are_refused_while_reading(tmp_path):
  write_camvid(tmp_path)
  red, blue = (200, 0, 0), (0, 0, 200)
  for i, colours in enumerate(((*red, *blue), (*blue, *red))):
    labels = Image.fromarray(np.eye(60, 80, dtype=np.uint8), "P")
    labels.putpalette(colours)
    labels.save(tmp_path / "train" / "labels" / f"00{i}.png")
  source = load("camvid", tmp_path)
  assert source[0][1].max() == 1  # by index
  with pytest.raises(UserError, match="001.png has another colour palette"):
    source[1]


def test_grey_images_become_three_equal_channels(tmp_path):
  write_camvid(tmp_path, 1, height=24, width=32)
  grey = photo(24, 32)[..., 0].copy()
  Image.fromarray(grey).save(tmp_path / "train" / "images" / "000.png")
  image, _ = load("camvid", tmp_path)[0]
  np.testing.assert_array_equal(image, np.stack([grey] * 3, -1))
