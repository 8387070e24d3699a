import itertools

import numpy as np
import pytest
from PIL import Image

from configs import setr_enc
from ppseg_jax import data
from ppseg_jax.data import folders
from ppseg_jax.data.augment import make_augment
from ppseg_jax.data.labels import CAMVID, CITYSCAPES, VOID
from ppseg_jax.data.pipeline import Cached, eval_batches, order, train_batches
from ppseg_jax.errors import UserError
from tests.helpers import write_camvid


class Numbers:
  """Image i is the number i everywhere, and so are its labels."""

  label_space = CITYSCAPES

  def __init__(self, size):
    self.size, self.reads = size, []

  def __len__(self):
    return self.size

  def __getitem__(self, index):
    self.reads.append(index)
    labels = np.full((8, 12), index, np.uint8)
    return np.stack([labels] * 3, -1), labels


def keep(rng, image, labels):
  return image, labels


def read(source, first=0, last=6, augment=keep, batch_size=4, **rest):
  return list(train_batches(
      source, augment, batch_size=batch_size, seed=3, first_step=first,
      last_step=last, **rest,
  ))


def same(one, two):
  return all(
      np.array_equal(a[name], b[name])
      for a, b in zip(one, two, strict=True) for name in a
  )


def test_each_epoch_reads_every_image_once_in_an_order_of_its_own():
  batches = read(Numbers(7), last=7)
  pairs = [(int(e), int(i)) for b in batches
           for e, i in zip(b["epoch"], b["index"], strict=True)]
  assert pairs == sorted(pairs, key=lambda pair: pair[0])
  orders = [[i for e, i in pairs if e == epoch] for epoch in range(4)]
  assert all(sorted(o) == list(range(7)) for o in orders)
  assert len(set(map(tuple, orders))) > 1
  assert orders[1] == order(3, 1, 7).tolist()


def test_batches_hold_the_images_their_index_names():
  for batch in read(Numbers(7)):
    assert batch["image"].dtype == batch["label"].dtype == np.uint8
    assert batch["image"][:, 0, 0, 0].tolist() == batch["index"].tolist()


def test_starting_at_a_step_reads_what_an_unbroken_run_reads_there():
  augment = make_augment(augmentation())
  whole = read(Numbers(7), augment=augment)
  assert same(read(Numbers(7), first=4, augment=augment), whole[4:])
  assert not same(whole[:2], whole[2:4])


def test_processes_read_the_parts_of_one_batch():
  whole = read(Numbers(7))
  parts = [read(Numbers(7), process=p, processes=2) for p in range(2)]
  for batch, one, two in zip(whole, *parts, strict=True):
    joined = np.concatenate([one["index"], two["index"]])
    np.testing.assert_array_equal(joined, batch["index"])


@pytest.mark.parametrize("count, processes", [(10, 1), (8, 1), (3, 2), (1, 2)])
def test_evaluation_counts_every_image_once_and_void_for_the_rest(
    count, processes
):
  seen = []
  for process in range(processes):
    batches = list(eval_batches(
        Numbers(12), count, batch_size=4, process=process, processes=processes
    ))
    assert len(batches) == -(-count // 4)
    for batch, place in itertools.product(batches, range(4 // processes)):
      index = batch["index"][place]
      if index < 0:
        assert (batch["label"][place] == VOID).all()
      else:
        assert (batch["label"][place] == index).all()
        seen.append(int(index))
  assert sorted(seen) == list(range(count))


def test_cached_source_reads_each_image_once():
  source = Numbers(5)
  cached = Cached(source)
  for _ in range(3):
    assert (cached[2][0] == 2).all()
  assert source.reads == [2] and len(cached) == 5


def test_an_error_in_a_reading_thread_reaches_the_reader():
  class Broken(Numbers):
    def __getitem__(self, index):
      raise UserError("x.png: not a readable image")

  with pytest.raises(UserError, match="x.png"):
    read(Broken(7))


def augmentation(**fields):
  config = setr_enc.get_config().data
  config.update(crop_height=8, crop_width=12, scale_min=0.5, scale_max=2.0,
                photometric=0.3, **fields)
  return config


def test_augmentation_keeps_size_and_moves_labels_with_the_image():
  config = augmentation()
  config.photometric = 0.0
  augment = make_augment(config)
  image = np.zeros((8, 12, 3), np.uint8)
  image[:, 6:] = 200
  labels = (image[..., 0] > 100).astype(np.uint8)
  mirrored = 0
  for seed in range(40):
    x, y = augment(np.random.default_rng(seed), image, labels)
    assert x.shape == (8, 12, 3) and y.shape == (8, 12)
    counted = y != VOID
    sharp = (x[..., 0] < 20) | (x[..., 0] > 180)
    assert ((x[..., 0] > 100) == (y == 1))[counted & sharp].all()
    mirrored += bool(y[0, 0] == 1 and y[0, -1] == 0)
  assert 5 < mirrored < 35


def test_augmentation_is_a_function_of_its_generator():
  augment = make_augment(augmentation())
  image, labels = Numbers(9)[5]
  one, two, other = (
      augment(np.random.default_rng(seed), image, labels) for seed in (1, 1, 2)
  )
  assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
  assert not np.array_equal(one[0], other[0])


def test_label_spaces_map_raw_ids_and_refuse_unknown_ones():
  raw = np.array([[7, 33], [0, 11]], np.uint8)
  train = CITYSCAPES.to_train_ids(raw, "x.png")
  assert train.tolist() == [[0, 18], [VOID, 2]]
  with pytest.raises(UserError, match=r"x\.png: label ids \[12, 200\]"):
    CAMVID.to_train_ids(np.array([[3, 12, 200]], np.uint8), "x.png")
  for space in (CITYSCAPES, CAMVID):
    assert len(space.names) == len(space.colours) == len(set(space.colours))
    used = set(space.raw_to_train.values()) - {VOID}
    assert used == set(range(space.num_classes))


def test_camvid_folder_gives_images_and_labels_of_the_asked_size(tmp_path):
  source = folders.camvid(str(write_camvid(tmp_path)), "train", 24, 32)
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
  source = folders.cityscapes(str(tmp_path), "val", 16, 32)
  image, labels = source[0]
  assert len(source) == 1 and (labels == CITYSCAPES.names.index("car")).all()
  with pytest.raises(UserError, match="leftImg8bit_trainvaltest.zip"):
    folders.cityscapes(str(tmp_path), "train", 16, 32)


@pytest.mark.parametrize("spoil, message", [
    (lambda image, labels: image.write_bytes(b"no image"), "not a readable"),
    (lambda image, labels: image.write_bytes(image.read_bytes()[:300]),
     "not a readable"),
    (lambda image, labels: labels.unlink(), "is missing"),
    (lambda image, labels: Image.new("RGB", (80, 60)).save(labels), "mode RGB"),
    (lambda image, labels: Image.new("L", (8, 8)).save(labels), "do not fit"),
    (lambda image, labels: Image.new("L", (80, 60), 77).save(labels), "77"),
])
def test_spoilt_files_are_named(tmp_path, spoil, message):
  write_camvid(tmp_path)
  image = tmp_path / "train" / "images" / "001.png"
  labels = tmp_path / "train" / "labels" / "001.png"
  spoil(image, labels)
  source = folders.camvid(str(tmp_path), "train", 24, 32)
  with pytest.raises(UserError, match=message) as caught:
    source[1]
  assert "001.png" in str(caught.value)


def test_streets_splits_share_no_scene():
  config = setr_enc.get_config().data
  config.update(height=32, width=48, train_images=5, val_images=5)
  scenes = [data.load(config, split)[i][0].tobytes()
            for split in ("train", "val") for i in range(5)]
  assert len(set(scenes)) == 10


def test_unknown_data_set_is_refused_by_name():
  config = setr_enc.get_config().data
  config.name = "mars"
  with pytest.raises(UserError, match="'mars' is none of streets"):
    data.load(config, "train")
