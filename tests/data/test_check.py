"""The check of a data set: every file, its classes, what is remembered."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from ppseg_jax.configs import setr_enc
from ppseg_jax.data import __main__ as command
from ppseg_jax.data import check
from ppseg_jax.data.labels import CAMVID, CITYSCAPES
from ppseg_jax.data.report import percent
from ppseg_jax.errors import UserError
from tests.helpers import photo, write_camvid

BOTH = ("train", "val")
CONFIG = "--config=configs/setr_enc.py:camvid"


def config_of(folder, **fields):
  config = setr_enc.get_config("camvid").data
  config.update(dir=str(folder), **fields)
  return config


def scan(folder, splits=BOTH, remembered=None, **fields):
  return check.scan(config_of(folder, **fields), splits, remembered)


def write_labels(folder, ids, count=3):
  """A data set whose label files are all `ids`, uint8 [H, W]."""
  write_camvid(folder, count, *ids.shape)
  for path in folder.glob("*/labels/*"):
    Image.fromarray(ids).save(path)
  return folder


def rows(*ids):
  """Labels of 8x8 for each of the ids, side by side."""
  return np.repeat(np.uint8(ids), 8)[None].repeat(8, 0)


@pytest.fixture
def forbidden(monkeypatch):
  """Forbids that any pair is read, from the call on."""
  def read(*paths):
    raise AssertionError(f"{paths} opened")

  return lambda: monkeypatch.setattr(check, "read_pair", read)


def test_classes_are_counted_in_pixels_and_images(tmp_path):
  write_labels(tmp_path, rows(0, 3, 3, 11))
  Image.fromarray(rows(0, 0, 0, 1)).save(
      tmp_path / "train" / "labels" / "001.png"
  )
  report = scan(tmp_path)
  found = {name: counts for name, *counts in report.classes("train")}
  assert found["sky"] == [2 * 64 + 3 * 64, 3]
  assert found["building"] == [64, 1] and found["road"] == [256, 2]
  assert found["void"] == [128, 2] and found["car"] == [0, 0]
  train, val = report.lines()
  assert train == ("data: train, 3 images: sky 41.7 %, building 8.33 %, road"
                   " 33.3 %, void 16.7 %")
  assert val == "data: val, 3 images: sky 25 %, road 50 %, void 25 %"


def test_a_part_left_out_is_counted_apart(tmp_path):
  report = scan(write_camvid(tmp_path), ("train", "left_out"), leave_out="1/3")
  assert [split.images for split in report.splits.values()] == [2, 1]
  assert report.splits["left_out"].present[0] == 1


@pytest.mark.parametrize("where", ["train", "val"])
def test_the_last_file_of_either_split_is_judged_and_named(tmp_path, where):
  write_camvid(tmp_path)
  image = tmp_path / where / "images" / "002.png"
  image.write_bytes(image.read_bytes()[:200])
  with pytest.raises(UserError, match=f"{where}/images/002.png"):
    scan(tmp_path)


def test_images_without_labels_are_read_and_remembered(tmp_path, forbidden):
  other = write_camvid(tmp_path / "other")
  fields = {"more": f"camvid={other},streets"}
  write_camvid(tmp_path / "own")
  report = scan(tmp_path / "own", **fields)
  assert report.lines()[2:] == [
      "data: camvid, 1 of data.more, 3 images without labels",
      "data: streets, 2 of data.more, 512 images without labels",
  ]
  image = other / "train" / "images" / "002.png"
  whole = image.read_bytes()
  image.write_bytes(whole[:200])
  with pytest.raises(UserError, match="other/train/images/002.png"):
    scan(tmp_path / "own", **fields)
  with pytest.raises(UserError, match="the data changed"):
    scan(tmp_path / "own", remembered=report.to_json(), **fields)
  image.write_bytes(whole)
  report = scan(tmp_path / "own", **fields)
  forbidden()
  scan(tmp_path / "own", remembered=report.to_json(), **fields)


def test_palettes_that_differ_are_refused_over_both_splits(tmp_path):
  write_camvid(tmp_path, 1)
  for where, colours in (("train", (0, 0, 0, 9, 9, 9)),
                         ("val", (9, 9, 9, 0, 0, 0))):
    labels = Image.fromarray(np.eye(60, 80, dtype=np.uint8), "P")
    labels.putpalette(colours)
    labels.save(tmp_path / where / "labels" / "000.png")
  with pytest.raises(UserError, match="another colour palette") as caught:
    scan(tmp_path)
  assert "train/labels" in str(caught.value)
  assert "val/labels" in str(caught.value)


def test_many_bad_files_are_counted_in_one_sentence(tmp_path):
  write_camvid(tmp_path, 4)
  for path in tmp_path.glob("*/labels/*"):
    path.unlink()
  with pytest.raises(UserError, match=r"\(5 more bad files; .* names all\)"):
    scan(tmp_path)


def test_nothing_is_opened_again_unless_a_file_changed(tmp_path, forbidden):
  write_camvid(tmp_path / "one")
  first = scan(tmp_path / "one")
  remembered = json.loads(json.dumps(first.to_json()))
  forbidden()
  again = scan(tmp_path / "one", remembered=remembered)
  assert again.lines() == first.lines()
  assert again.to_json() == remembered
  os.utime(tmp_path / "one" / "val" / "labels" / "002.png", (1, 1))
  with pytest.raises(AssertionError, match="opened"):
    scan(tmp_path / "one", remembered=remembered)


def test_a_moved_data_set_with_other_times_is_the_same(tmp_path):
  write_camvid(tmp_path / "one")
  before = scan(tmp_path / "one").to_json()
  shutil.copytree(tmp_path / "one", tmp_path / "two",
                  copy_function=shutil.copyfile)
  after = scan(tmp_path / "two").to_json()
  check.check_same(before, after)
  assert before["fingerprint"] == after["fingerprint"]
  check.check_same({}, after)  # a run from before there was a fingerprint


@pytest.mark.parametrize("change, said", [
    (lambda split: [shutil.copy(split / kind / "000.png",
                                split / kind / "009.png")
                    for kind in ("images", "labels")],
     "split train of this run had 3 images, and now 4"),
    (lambda split: [(split / kind / "000.png").rename(split / kind / "9.png")
                    for kind in ("images", "labels")], "files of other names"),
    (lambda split: Image.fromarray(photo(60, 80, 9)).save(
        split / "images" / "001.png"), "files of other sizes"),
])
def test_other_data_in_a_run_is_refused_with_the_difference(
    tmp_path, change, said, forbidden
):
  before = scan(write_camvid(tmp_path)).to_json()
  change(tmp_path / "train")
  with pytest.raises(UserError, match=said):
    check.check_same(before, scan(tmp_path).to_json())
  forbidden()
  with pytest.raises(UserError, match=said):
    scan(tmp_path, remembered=before)


@pytest.mark.parametrize("share, said", [
    (1.0, "100 %"), (0.9996, "100 %"), (0.1234, "12.3 %"), (3e-4, "0.03 %"),
    (1e-9, "<0.01 %"),
])
def test_shares_are_readable(share, said):
  assert percent(share) == said


def test_drawn_scenes_cost_nothing():
  config = setr_enc.get_config().data
  config.train_images = 10**6
  report = check.scan(config, BOTH)
  assert report.lines() == ["data: train, 1000000 images, drawn",
                            "data: val, 64 images, drawn"]
  assert report.warnings() == []
  again = check.scan(config, BOTH, report.to_json())
  check.check_same(report.to_json(), again.to_json())


def test_classes_that_never_occur_are_named(tmp_path):
  write_labels(tmp_path, rows(*range(12)))
  assert scan(tmp_path).warnings() == []
  Image.fromarray(rows(*range(8), 9, 10, 11, 11)).save(
      tmp_path / "val" / "labels" / "000.png"
  )
  assert scan(tmp_path).warnings() == []
  for path in (tmp_path / "val" / "labels").iterdir():
    Image.fromarray(rows(*range(8), 9, 10, 11, 11)).save(path)
  (warning,) = scan(tmp_path).warnings()
  assert warning.startswith("car: no pixel in the 3 images of val")


def test_ids_one_too_high_are_called_so(tmp_path):
  write_labels(tmp_path, rows(*range(1, 13)), 1)
  with pytest.raises(UserError, match=r"\[12\].* one too high: 0 never"):
    scan(tmp_path)


def shifted(space, ids, images):
  """Warnings for a split where just these raw ids occur."""
  pixels, present = [0] * 256, [0] * 256
  for raw in ids:
    pixels[raw] = 5
    present[space.raw_to_train.get(raw, 255)] = 1
  split = check.Split(images, False, 0, {}, pixels, present)
  report = check.Report(space, {"train": split}, "")
  return [text for text in report.warnings() if "look one" in text]


def test_shifted_ids_are_told_from_small_and_from_sound_sets():
  camvid, scapes = CAMVID, CITYSCAPES
  assert len(shifted(camvid, range(1, 12), 20)) == 1
  assert not shifted(camvid, range(1, 12), 19)
  assert not shifted(camvid, range(12), 100)
  assert not shifted(camvid, range(3, 12), 100)  # more than the first missing
  assert not shifted(camvid, range(1, 11), 100)  # nothing beyond the last
  assert len(shifted(camvid, (1, 4, 12), 1)) == 1  # 12 is refused anyway
  ids = {*range(34)}
  assert len(shifted(scapes, ids - {33}, 20)) == 1
  assert not shifted(scapes, ids - {33}, 19)
  assert not shifted(scapes, ids, 100)
  assert not shifted(scapes, ids - {0, 33}, 100)
  assert not shifted(scapes, ids - {31, 33}, 100)


def test_the_command_prints_the_table_of_classes(tmp_path, capsys):
  write_labels(tmp_path, rows(0, 3, 3, 11))
  (tmp_path / "val" / "images" / "Thumbs.db").write_bytes(b"?")
  words = ["check", CONFIG, f"--config.data.dir={tmp_path}"]
  assert command.main(words) == 0
  out, err = capsys.readouterr()
  assert "train: 3 images\n" in out
  assert "val: 3 images, 1 other file(s) skipped" in out
  assert "  road                      384   50.00%       3" in out
  assert "building" in err and err.startswith("warning: ")
  assert command.main([*words, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["classes"]["val"]["road"] == {"pixels": 384, "images": 3}
  assert found["failures"] == []


def test_the_command_names_every_bad_file_and_exits_with_2(tmp_path, capsys):
  write_camvid(tmp_path, 5)
  for path in sorted(tmp_path.glob("*/labels/*"))[1:]:
    Image.new("L", (80, 60), 99).save(path)
  code = command.main(["check", CONFIG, f"--config.data.dir={tmp_path}"])
  errors = [line for line in capsys.readouterr().err.splitlines()
            if line.startswith("error: ")]
  assert code == 2 and len(errors) == 9
  assert all("label ids [99]" in line for line in errors)


@pytest.mark.parametrize("words, said", [
    (["count", CONFIG], "'count' is no command"),
    (["check"], "--config is missing"),
    (["check", CONFIG, "--config.data.dir=/nowhere"], "/nowhere"),
    (["check", CONFIG, "--config.data.nothing=1"], "nothing"),
    (["check", CONFIG, "--fast"], "fast"),
])
def test_a_wrong_command_gets_one_sentence(words, said, capsys):
  try:
    code = command.main(words)
  except SystemExit as stop:
    code = stop.code
  err = capsys.readouterr().err
  assert code == 2 and err.startswith("error: ") and err.count("\n") == 1
  assert said in err


def test_sizes_modes_and_pictures_in_two_splits_are_found(tmp_path, capsys):
  write_camvid(tmp_path)
  photo_of = tmp_path / "train" / "images" / "001.png"
  # Another file of the same picture.
  Image.open(photo_of).save(tmp_path / "val" / "images" / "002.bmp")
  (tmp_path / "val" / "images" / "002.png").unlink()
  report = scan(tmp_path)
  assert report.splits["train"].sizes == {"80x60": 3}
  assert report.splits["train"].modes == {"image RGB": 3, "labels L": 3}
  assert report.duplicates == [["train/images/001.png", "val/images/002.bmp"]]
  remembered = json.loads(json.dumps(report.to_json()))
  assert scan(tmp_path, remembered=remembered).to_json() == report.to_json()
  assert command.main(["check", CONFIG, f"--config.data.dir={tmp_path}"]) == 0
  out, err = capsys.readouterr()
  assert "  1 size(s): 80x60 (3)" in out
  assert "1 picture(s) are in two splits, train/images/001.png" in err


def test_the_panel_shows_sixteen_pairs_at_most(tmp_path, capsys):
  write_camvid(tmp_path / "data", 5)
  words = [CONFIG, f"--config.data.dir={tmp_path / 'data'}",
           f"--panel={tmp_path / 'panel.png'}"]
  assert command.main(["show", *words]) == 0
  assert "done: the panel is" in capsys.readouterr().out
  assert Image.open(tmp_path / "panel.png").size == (4 * 84 - 4, 2 * 64 - 4)
  (tmp_path / "panel.png").unlink()
  assert command.main(["check", *words, "--json"]) == 0
  json.loads(capsys.readouterr().out)
  assert (tmp_path / "panel.png").exists()


def test_other_classes_in_a_run_are_refused(tmp_path):
  folder = tmp_path / "own"
  write_camvid(folder)
  declared = [{"id": i, "name": f"c{i}", "colour": [i, 0, 9]}
              for i in range(12)]

  def look(entries, remembered=None):
    (folder / "classes.json").write_text(json.dumps(entries))
    return scan(folder, remembered=remembered, name="folder").to_json()

  remembered = json.loads(json.dumps(look(declared)))
  look(declared, remembered)
  with pytest.raises(UserError, match="this run has the classes c0, c1"):
    look(declared[::-1], remembered)
