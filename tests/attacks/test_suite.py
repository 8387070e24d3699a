"""The suite runs what is declared, and leaves its rows and panels."""

import json

import pytest

from ppseg_jax.attacks import suite
from ppseg_jax.configs import attacks as config_file
from ppseg_jax.errors import UserError


def test_the_command_writes_rows_and_panels(tmp_path):
  config = config_file.get_config()
  config.data.height, config.data.width, config.block = 64, 96, 8
  config.images, config.others, config.panels = 2, 3, 1
  config.attacks = ("known_plaintext", "correlation", "jigsaw")
  config.schemes = ("independent",)
  lines = []
  rows = suite.run(config, tmp_path, lines.append)
  written = json.loads((tmp_path / "attacks.json").read_text())["rows"]
  assert written == rows and len(lines) == len(rows) + 1
  by = {(row["attack"], row["keys"]): row for row in rows}
  assert by["ceiling", ""]["ssim"] == pytest.approx(1)
  assert by["floor", ""]["ssim"] < 0.7
  assert by["known_plaintext", "shared"]["ssim"] > 0.95
  assert by["known_plaintext", "image"]["ssim"] < 0.8
  assert by["known_plaintext", "image"]["images"] == 1
  assert by["jigsaw", "image"]["ssim"] is None
  assert "at their places" in by["jigsaw", "image"]["refused"]
  assert by["correlation", "image"]["seconds"] > 0
  assert (tmp_path / "panels" / "independent_000.png").is_file()


@pytest.mark.parametrize("field, value, part", [
    ("images", 0, "images=0"),
    ("others", 1, "others=1"),
    ("attacks", ("guess",), "'guess' is none of"),
    ("schemes", ("rot13",), "'rot13' is none of"),
    ("schemes", (), "must each name"),
    ("schemes", ("le", "blockwise", "le"), "have one name"),
    ("block", 7, "not a multiple of the block size 7"),
])
def test_a_bad_config_is_refused_in_a_sentence(field, value, part):
  config = config_file.get_config()
  config[field] = value
  with pytest.raises(UserError, match=part):
    suite.check(config)
