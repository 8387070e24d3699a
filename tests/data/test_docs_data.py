"""docs/data.md is true: its commands, its tables, its example."""

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from ppseg_jax import config as config_checks
from ppseg_jax import main as program
from ppseg_jax.data import __main__ as looks
from ppseg_jax.data import own, spaces
from ppseg_jax.data.layouts import LAYOUTS
from tests.helpers import ROOT, photo

TEXT = (ROOT / "docs" / "data.md").read_text()
COMMANDS = [
    shlex.split(line)[2:] for block in re.findall(r"```sh\n(.*?)```", TEXT,
                                                  re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize(
    "command", [words for words in COMMANDS if words[0] == "ppseg_jax.main"],
    ids=lambda words: words[-1],
)
def test_every_command_of_main_is_taken(command, monkeypatch):
  """Up to where data is read: the config is made, checked and handed on."""
  taken = []
  monkeypatch.chdir(ROOT)
  mode = next((word.partition("=")[2] for word in command
               if word.startswith("--mode=")), "train")
  monkeypatch.setitem(program._MODES, mode,
                      lambda config, folder: taken.append(config) or 0)
  assert program.main(command[1:]) == 0
  assert taken == [config_checks.resolve(taken[0])]


def test_the_commands_that_look_at_data_work_on_the_folder_shown(
    tmp_path, monkeypatch, capsys
):
  for split, seed in (("train", 0), ("val", 1)):
    for kind in ("images", "labels"):
      (tmp_path / "mine" / split / kind).mkdir(parents=True)
    ids = np.uint8([0, 1, 2, 255]).repeat(12)[None].repeat(32, 0)
    root = tmp_path / "mine" / split
    Image.fromarray(photo(32, 48, seed)).save(root / "images" / "1.jpg")
    Image.fromarray(ids).save(root / "labels" / "1.png")
  for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
    (tmp_path / "VOC" / folder).mkdir(parents=True)
  root = tmp_path / "VOC"
  (root / "ImageSets/Segmentation/train.txt").write_text("1\n")
  Image.fromarray(photo(32, 48)).save(root / "JPEGImages" / "1.jpg")
  Image.fromarray(ids).save(root / "SegmentationClass" / "1.png")
  monkeypatch.chdir(tmp_path)
  found = [words[1:] for words in COMMANDS if words[0] == "ppseg_jax.data"
           and words[1] != "convert"]  # of Cityscapes, see test_tfds
  assert [words[0] for words in found] == ["init", "check", "export", "show"]
  for words in found:
    assert looks.main(words) == 0, (words, capsys.readouterr().err)
  assert len([*(tmp_path / "streets").rglob("*.png")]) == 24
  assert (tmp_path / "panel.png").exists() and (tmp_path / "voc.png").exists()


def test_the_declaration_shown_is_read(tmp_path):
  (shown,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
  assert len(json.loads(shown)) == 4
  (tmp_path / "classes.json").write_text(shown)
  space = own.read_space(tmp_path)
  assert space.names == ("road", "car")
  assert space.raw_to_train == {0: 0, 1: 1, 2: 1, 255: 255}


def test_every_layout_and_map_is_in_a_table():
  named = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
  assert named == {*LAYOUTS, "exact", "shorter", "none"}
  pairs = set(re.findall(r"^\| `(\w+)`, `(\w+)` \|", TEXT, re.MULTILINE))
  assert pairs == {*spaces.MAPS}
  for name, (space, _) in LAYOUTS.items():
    row = next(line for line in TEXT.splitlines()
               if line.startswith(f"| `{name}` |"))
    count = row.split("|")[3].split(",")[0].strip()
    assert count in (str(space.num_classes), "those of `camvid`")
