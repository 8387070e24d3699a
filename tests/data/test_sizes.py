"""Images of other sizes: kept in shape, padded to blocks, counted in full."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ppseg_jax import config as config_checks
from ppseg_jax import data, pictures
from ppseg_jax.configs import setr_enc
from ppseg_jax.data import augment, sizes
from ppseg_jax.data.labels import CAMVID, VOID
from ppseg_jax.data.pipeline import train_batches
from ppseg_jax.errors import UserError
from tests.helpers import photo

SHAPES = ((40, 30), (30, 40), (40, 30), (64, 70))


def config_of(folder=None, **fields):
  config = setr_enc.get_config("camvid")
  config.data.update(height=32, width=48, dir=str(folder))
  for name, value in fields.items():
    section, _, field = name.partition("__")
    config[section][field] = value
  return config_checks.resolve(config)


@pytest.fixture
def mixed(tmp_path):
  """A data set of four images, of which two are of one size."""
  for split in ("train", "val"):
    for i, (height, width) in enumerate(SHAPES):
      for kind in ("images", "labels"):
        (tmp_path / split / kind).mkdir(parents=True, exist_ok=True)
      Image.fromarray(photo(height, width, i)).save(
          tmp_path / split / "images" / f"{i}.png"
      )
      Image.fromarray(np.full((height, width), i, np.uint8)).save(
          tmp_path / split / "labels" / f"{i}.png"
      )
  return tmp_path


@settings(deadline=None)
@given(st.integers(1, 900), st.integers(1, 900))
def test_the_shorter_side_is_met_and_the_shape_kept(height, width):
  data_config = config_of(data__resize="shorter").data
  found = sizes.input_size(data_config, (height, width))
  assert min(found) == 32
  ratio = max(height, width) / min(height, width)
  assert abs(max(found) - 32 * ratio) <= 0.5


@pytest.mark.parametrize("how, size", [
    ("exact", (32, 48)), ("shorter", (43, 32)), ("none", (40, 30)),
])
def test_images_are_resized_as_the_config_says(mixed, how, size):
  config = config_of(mixed, data__resize=how)
  image, labels = data.load(config.data, "train")[0]
  assert image.shape[:2] == labels.shape == size


@pytest.mark.parametrize("how", ["shorter", "none"])
@pytest.mark.parametrize("setting", ["home", "cloud"])
def test_training_batches_are_of_one_size_without_distortion(
    mixed, how, setting
):
  config = config_of(mixed, data__resize=how, data__flip=False)
  make = (augment.make_window(config.data, 8) if setting == "cloud"
          else augment.make_augment(config.data))
  (batch,) = train_batches(
      data.load(config.data, "train"), make, batch_size=4, seed=0,
      first_step=0, last_step=1,
  )
  assert batch["image"].shape == (4, 32, 48, 3)
  for index, image, labels in zip(batch["index"], batch["image"],
                                  batch["label"], strict=True):
    assert set(np.unique(labels)) <= {index, VOID} and (labels == index).any()
    assert (image[labels == VOID] == 0).all()


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_fitted_pads_below_and_right_or_cuts_the_middle(height, width):
  image = np.ones((height, width, 3), np.uint8)
  labels = np.arange(height * width, dtype=np.int64).reshape(height, width)
  labels = (labels % 200).astype(np.uint8)
  found, ids = sizes.fitted(image, labels, 16, 24)
  assert found.shape == (16, 24, 3) and ids.shape == (16, 24)
  top, left = max(height - 16, 0) // 2, max(width - 24, 0) // 2
  kept = labels[top : top + 16, left : left + 24]
  np.testing.assert_array_equal(ids[: kept.shape[0], : kept.shape[1]], kept)
  assert (ids == VOID).sum() == 16 * 24 - kept.size
  assert found.sum() == 3 * kept.size


AT = pytest.mark.parametrize("at", ["input", "original"])


@AT
def test_a_test_pads_images_to_blocks_as_a_client_does(mixed, at):
  config = config_of(mixed, data__resize="shorter", eval__at=at)
  image, labels = data.load_test(config, "val")[0]
  plain = sizes.resize(photo(40, 30, 0), (43, 32))
  np.testing.assert_array_equal(image, pictures.pad(plain, 8))
  assert image.shape == (48, 32, 3)
  if at == "input":
    assert labels.shape == (48, 32)
    assert (labels[:43] == 0).all() and (labels[43:] == VOID).all()
  else:
    assert labels.shape == (40, 30)
    assert sizes.of_logits(config)(labels.shape) == (43, 32)


@AT
def test_batches_of_a_test_are_of_one_shape_each(mixed, at):
  config = config_of(mixed, data__resize="none", eval__at=at)
  source = data.load_test(config, "val")
  assert source.shapes == (
      [*SHAPES] if at == "original" else [(40, 32), (32, 40), (40, 32),
                                          (64, 72)]
  )
  batches = list(sizes.shaped_batches(source, 4, batch_size=2))
  assert [batch["index"].tolist() for batch in batches] == [
      [0, 2], [1, -1], [3, -1]
  ]
  for batch in batches:
    counted = (batch["label"] != VOID).any((1, 2))
    assert counted.tolist() == (batch["index"] >= 0).tolist()


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30),
       st.integers(1, 4), st.integers(1, 3))
def test_every_image_is_in_one_batch_whoever_reads_it(shapes, local, processes):
  source = type("Source", (), {"shapes": shapes})
  batches = list(sizes.by_shape(source, len(shapes), local * processes))
  seen = [index for batch in batches for index in batch if index >= 0]
  assert sorted(seen) == list(range(len(shapes)))
  for batch in batches:
    assert len(batch) == local * processes
    assert len({shapes[i] for i in batch if i >= 0}) == 1


def test_a_source_without_files_is_read_for_its_shapes():
  class Drawn:
    label_space = CAMVID

    def __len__(self):
      return 3

    def __getitem__(self, index):
      size = SHAPES[index]
      return np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)

  source = sizes.Sized(Drawn(), config_of())
  assert len({*source.shapes}) == 2
  batches = sizes.shaped_batches(source, 3, batch_size=2)
  assert [batch["index"].tolist() for batch in batches] == [[0, 2], [1, -1]]


def test_a_file_that_is_no_picture_is_named(mixed):
  config = config_of(mixed, data__resize="none")
  image = mixed / "val" / "images" / "2.png"
  image.write_bytes(b"?")
  with pytest.raises(UserError, match=r"images/2\.png is not a readable"):
    data.load_test(config, "val")


def test_a_turned_photo_has_the_shape_that_it_is_read_in(tmp_path):
  image = Image.fromarray(photo(24, 32))
  exif = image.getexif()
  exif[0x0112] = 6  # a quarter turn
  image.save(tmp_path / "x.jpg", exif=exif)
  shape = pictures.read_rgb(tmp_path / "x.jpg").shape[:2]
  assert sizes._size_of(tmp_path / "x.jpg") == shape == (32, 24)
