"""Data sets of tensorflow-datasets: the official features, and our own."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from ppseg_jax import config as config_checks
from ppseg_jax import data
from ppseg_jax.configs import setr_enc
from ppseg_jax.data import __main__ as command
from ppseg_jax.data import check, labels, tfds
from ppseg_jax.errors import UserError
from tests.helpers import ROOT, call, photo, write_camvid

package = pytest.importorskip("tensorflow_datasets")
package.disable_progress_bar()


def png(values):
  file = io.BytesIO()
  Image.fromarray(values).save(file, "PNG")
  return file.getvalue()


def prepare(
    folder, name, features, splits, config="", file_format="array_record",
    **info
):
  """A data set of that name and those features; splits: name -> examples."""
  def _info(self):
    return package.core.DatasetInfo(
        builder=self, features=package.features.FeaturesDict(features), **info
    )

  configs = [package.core.BuilderConfig(name=config, version="1.0.0")]
  with package.core.registered.skip_registration():
    made = type("Builder", (package.core.GeneratorBasedBuilder,), {
        "__module__": __name__, "name": name, "_info": _info,
        "VERSION": package.core.Version("1.0.0"),
        "BUILDER_CONFIGS": configs if config else [],
        "_split_generators": lambda self, _: {
            split: enumerate(examples) for split, examples in splits.items()
        },
        "_generate_examples": lambda self: iter(()),
    })
  made(data_dir=folder, file_format=file_format).download_and_prepare()


def config_of(folder, name, **fields):
  config = setr_enc.get_config().data
  config.update(dir=str(folder), name=f"tfds:{name}", height=24, width=32,
                **fields)
  return config


def image(channels):
  return package.features.Image(shape=(None, None, channels))


def test_cityscapes_is_read_in_the_order_of_its_ids(tmp_path):
  rng = np.random.default_rng(0)
  raw = rng.integers(0, 34, (12, 24, 32)).astype(np.uint8)
  examples = [
      {"image_id": f"city_{i:02d}", "image_left": png(photo(24, 32, i)),
       "segmentation_label": png(raw[i])} for i in range(12)
  ]
  name = "cityscapes/semantic_segmentation"
  prepare(
      tmp_path, "cityscapes", {
          "image_id": package.features.Text(), "image_left": image(3),
          "segmentation_label": image(1),
      }, {"train": examples, "validation": examples[:3],
          "test": examples[3:5]}, config="semantic_segmentation",
  )
  config = config_of(tmp_path, name, leave_out="2/3")
  source = data.load(config, "train")
  assert len(source) == 8 and len(data.load(config, "val")) == 3
  assert source.label_space is data.label_space(config) is labels.CITYSCAPES
  for place, i in enumerate((0, 1, 2, 3, 8, 9, 10, 11)):
    picture, found = source[place]
    np.testing.assert_array_equal(picture, photo(24, 32, i))
    np.testing.assert_array_equal(
        found, labels.CITYSCAPES.to_train_ids(raw[i], "")
    )
  # They were stored in another order.
  order = tfds._order(str(tmp_path / name / "1.0.0"), "train")
  assert sorted(order) == list(range(12)) != order.tolist()

  report = check.scan(config, ("train", "val"))
  assert report.splits["train"].pixels == np.bincount(
      raw[[0, 1, 2, 3, 8, 9, 10, 11]].ravel(), minlength=256
  ).tolist()
  assert not report.splits["train"].drawn
  assert source.shards and not source.files
  np.testing.assert_array_equal(source.raw(4)[1], raw[8])
  small = config_of(tmp_path, name)
  small.height, small.width = 12, 16
  assert data.load(small, "val")[0][0].shape == (12, 16, 3)


def test_red_is_the_class_of_scene_parse150(tmp_path):
  annotation = np.zeros((24, 32, 3), np.uint8)
  annotation[..., 0] = [[0] * 16 + [1] * 8 + [4] * 4 + [100] * 4]
  annotation[..., 1] = 7  # instances
  example = {"image": png(photo(24, 32)), "annotation": png(annotation)}
  prepare(tmp_path, "scene_parse150", {
      "image": package.features.Image(), "annotation": package.features.Image()
  }, {"train": [example], "test": [example]})
  source = data.load(config_of(tmp_path, "scene_parse150"), "val")
  space = source.label_space
  assert space.num_classes == 100
  shown = [space.names[i] for i in np.unique(source[0][1]) if i != labels.VOID]
  assert shown == ["bed", "person", "flag"]
  assert (source[0][1] == labels.VOID).mean() == 0.5


def test_oxford_pets_are_a_trimap_of_1_to_3(tmp_path):
  mask = np.repeat(np.uint8([1, 2, 3, 3]), 8)[None].repeat(24, 0)
  example = {"image": png(photo(24, 32)), "file_name": "a",
             "segmentation_mask": png(mask), "label": 0}
  prepare(tmp_path, "oxford_iiit_pet", {
      "image": package.features.Image(), "file_name": package.features.Text(),
      "segmentation_mask": image(1),
      "label": package.features.ClassLabel(names=["cat"]),
  }, {"train": [example], "test": [example]})
  source = data.load(config_of(tmp_path, "oxford_iiit_pet"), "val")
  assert source.label_space.names == ("pet", "background", "border")
  np.testing.assert_array_equal(source[0][1], mask - 1)


def test_any_other_has_the_names_of_its_labelled_image(tmp_path):
  features = {
      "picture": image(3), "depth": image(3),
      "mask": package.features.LabeledImage(labels=["cell", "rest"]),
  }
  mask = np.repeat(np.uint8([0, 1, 1, 255]), 8)[None].repeat(24, 0)
  example = {"picture": png(photo(24, 32)), "depth": png(photo(24, 32, 1)),
             "mask": png(mask)}
  wrong = {**example, "mask": png(mask + 3)}
  prepare(tmp_path, "cells", features, {"train": [example, wrong]})
  with pytest.raises(UserError, match="data.tfds_image='' must name one"):
    data.load(config_of(tmp_path, "cells"), "train")
  config = config_of(tmp_path, "cells", tfds_image="picture")
  source = data.load(config, "train")
  assert source.label_space.names == ("cell", "rest")
  read = []
  for i in range(2):
    with contextlib.suppress(UserError):
      read.append(source[i][1])
  np.testing.assert_array_equal(read, [mask])
  with pytest.raises(UserError, match=r"train\[.\].*label ids \[2, 3, 4\]"):
    check.scan(config, ("train",))
  with pytest.raises(UserError, match="splits train, but none of validation"):
    data.load(config, "val")
  config.tfds_label = "picture"
  with pytest.raises(UserError, match="does not say what the ids"):
    data.load(config, "train")


def test_images_of_many_sizes_are_checked_and_tested_by_their_sizes(tmp_path):
  features = {"picture": image(3),
              "mask": package.features.LabeledImage(labels=["cell", "rest"])}
  shapes = [(24, 32), (40, 30), (24, 32)]
  examples = [
      {"picture": png(photo(*shape, seed)),
       "mask": png(np.ones(shape, np.uint8))}
      for seed, shape in enumerate(shapes)
  ]
  prepare(tmp_path, "cells", features, {
      "train": examples, "validation": examples[:2]
  }, disable_shuffling=True)
  config = setr_enc.get_config()
  config.data = config_of(tmp_path, "cells", resize="shorter")
  config = config_checks.resolve(config)
  source = data.load_test(config, "val")
  assert source.shapes == [(24, 32), (32, 24)]
  assert [source[i][0].shape[:2] for i in range(2)] == source.shapes
  config.eval.at = "original"
  assert data.load_test(config, "val").shapes == shapes[:2]

  report = check.scan(config.data, ("train", "val"))
  assert report.splits["train"].sizes == {"32x24": 2, "30x40": 1}
  assert ["train[0]", "val[0]"] in report.duplicates
  remembered = json.loads(json.dumps(report.to_json()))
  again = check.scan(config.data, ("train", "val"), remembered)
  assert again.to_json() == report.to_json()


def test_what_is_not_prepared_or_not_by_index_is_told(tmp_path, monkeypatch):
  with pytest.raises(UserError, match="tfds build cityscapes"):
    data.load(config_of(tmp_path, "cityscapes"), "train")
  with pytest.raises(UserError, match="must be like tfds:"):
    data.load(config_of(tmp_path, "../x"), "train")
  example = {"image": png(photo(24, 32)), "mask": png(photo(24, 32)[..., 0])}
  prepare(tmp_path, "oxford_iiit_pet", {"image": image(3), "mask": image(1)},
          {"train": [example]})
  shard = next(tmp_path.glob("*/*/*.array_record*"))
  config = config_of(tmp_path, "oxford_iiit_pet")
  with pytest.raises(UserError, match="label ids"):
    data.load(config, "train")[0]
  shard.unlink()
  with pytest.raises(UserError, match="is missing; prepare"):
    data.load(config, "train")
  info = next(tmp_path.glob("*/*/dataset_info.json"))
  info.write_text(info.read_text().replace("array_record", "tfrecord"))
  (shard.parent / shard.name.replace("array_record", "tfrecord")).touch()
  with pytest.raises(UserError, match="cannot be read by index"):
    data.load(config, "train")
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  with pytest.raises(UserError, match=r"pip install 'ppseg_jax\[tfds\]'"):
    data.load(config, "train")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
  folder = tmp_path_factory.mktemp("camvid")
  write_camvid(folder / "camvid", count=5)
  done = call(
      command.main, "convert", "--config=configs/setr_enc.py:camvid",
      f"--config.data.dir={folder / 'camvid'}", "--config.data.height=48",
      "--config.data.width=64", str(folder / "out"),
  )
  assert done.returncode == 0, done.stderr
  return folder, done.stdout


def camvid_config(folder, name):
  config = setr_enc.get_config("camvid").data
  config.update(dir=str(folder), name=name, height=48, width=64)
  return config


def test_what_was_converted_reads_back_as_it_was(converted):
  folder, printed = converted
  assert "--config.data.name=tfds:camvid" in printed
  for split in ("train", "val"):
    one = data.load(camvid_config(folder / "camvid", "camvid"), split)
    other = data.load(camvid_config(folder / "out", "tfds:camvid"), split)
    assert other.label_space == one.label_space
    assert len(other) == len(one) == 5
    with ThreadPoolExecutor(8) as pool:  # as training reads
      again = list(pool.map(other.__getitem__, [*range(5)] * 20))
    for place, example in enumerate(again):
      for was, now in zip(one[place % 5], example, strict=True):
        np.testing.assert_array_equal(was, now)
  assert [path.name for path in (folder / "out").iterdir()] == ["camvid"]


def test_a_bad_file_ends_a_conversion_in_a_sentence_and_leaves_no_data_set(
    tmp_path
):
  folder = write_camvid(tmp_path / "camvid")
  bad = folder / "train" / "labels" / "001.png"
  sound = bad.read_bytes()
  bad.write_bytes(b"no picture")
  words = ("convert", "--config=configs/setr_enc.py:camvid",
           f"--config.data.dir={folder}", str(tmp_path / "out"))
  done = call(command.main, *words)
  assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
  assert "001.png is not a readable picture" in done.stderr
  assert not list(tmp_path.glob("out/**/dataset_info.json"))
  bad.write_bytes(sound)
  assert call(command.main, *words).returncode == 0


def test_a_converted_data_set_is_fingerprinted_and_not_written_over(
    converted, tmp_path
):
  folder, _ = converted
  config = camvid_config(folder / "out", "tfds:camvid")
  report = check.scan(config, ("train",))
  found = report.fingerprint["train"]
  assert found["images"] == 5 and found["bytes"] > 1000
  assert sum(report.splits["train"].pixels) == 5 * 48 * 64
  again = check.scan(config, ("train",), json.loads(
      json.dumps(report.to_json())
  ))
  assert again.splits["train"].pixels == report.splits["train"].pixels
  arguments = ("convert", "--config=configs/setr_enc.py:camvid",
               f"--config.data.dir={folder / 'camvid'}")
  done = call(command.main, *arguments, str(folder / "out"))
  assert done.returncode == 2 and "holds a data set already" in done.stderr
  for words in (arguments, (*arguments, "a", "b")):
    done = call(command.main, *words)
    assert done.returncode == 2 and "needs a config and a folder" in done.stderr


@pytest.mark.parametrize("name, content", [
    ("*train*", b"x" * 30_000), ("dataset_info.json", b"{"),
    ("metadata.json", b"{"), ("features.json", None),
])
def test_damaged_files_are_told_in_a_sentence(
    converted, tmp_path, name, content
):
  shutil.copytree(converted[0] / "out", tmp_path / "out")
  (path,) = tmp_path.glob(f"out/camvid/1.0.0/{name}")
  if content is None:
    path.unlink()
  else:
    path.write_bytes(content)
  with pytest.raises(UserError, match="cannot be read .*; prepare the"):
    data.load(camvid_config(tmp_path / "out", "tfds:camvid"), "train")[0]


def test_the_config_takes_the_name_and_training_needs_no_tensorflow(converted):
  config = setr_enc.get_config("camvid")
  config.data.update(name="tfds:camvid", dir=str(converted[0] / "out"))
  config_checks.resolve(config)
  code = (
      "import sys; from ppseg_jax import data;"
      " from ppseg_jax.configs import setr_enc;"
      " c = setr_enc.get_config('camvid').data;"
      f" c.update(name='tfds:camvid', dir={str(converted[0] / 'out')!r});"
      " data.load(c, 'train')[0]; print('tensorflow' in sys.modules)"
  )
  done = subprocess.run(
      [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
      timeout=120,
  )
  assert done.stdout == "False\n", done.stderr
