"""The challenge is scored by what it said before anyone tried."""

import numpy as np
import pytest
from PIL import Image

from ppseg_jax.attacks import ATTACKS, Budget, Knowledge, targets
from ppseg_jax.attacks import challenge as challenges
from ppseg_jax.configs import attacks as config_file
from ppseg_jax.errors import UserError
from tests.helpers import photo


def test_a_challenge_is_won_by_the_plain_images_and_not_by_the_ciphertexts(
    tmp_path, capsys, monkeypatch
):
  some = dict(list(challenges.LEVELS.items())[1:3])  # each is compiled
  monkeypatch.setattr(challenges, "LEVELS", some)
  (tmp_path / "photos").mkdir()
  for i in range(2):
    Image.fromarray(photo(40, 50, i)).save(tmp_path / "photos" / f"me{i}.png")
  out = tmp_path / "out"
  assert challenges.main(["make", f"--images={tmp_path / 'photos'}",
                          f"--out={out}"]) == 0
  names = {path.name for path in (out / "public").rglob("*.png")}
  assert names == {"000.png", "001.png"}  # an image's own name is not told
  one, two = ({path.name for path in (out / "public" / level).iterdir()}
              for level in challenges.LEVELS)
  assert one and two and not one & two  # what opens one helps with no other
  rows = challenges.score(out, out / "public")
  assert [row["won"] for row in rows] == [False] * len(challenges.LEVELS)
  assert all(row["progress"] <= 1e-9 for row in rows)
  level, ranked = challenges.LEVELS
  (tmp_path / "known" / ranked).mkdir(parents=True)
  for path in (out / "public" / ranked).iterdir():
    cipher = np.asarray(Image.open(path))[None]
    known = Knowledge(cipher, targets.get("blockwise"), 8)
    found = ATTACKS["rank"](known, 0, Budget()).images[0]
    Image.fromarray(found).save(tmp_path / "known" / ranked / path.name)
  (row,) = challenges.score(out, tmp_path / "known")
  assert row["progress"] == pytest.approx(0)  # what is known wins nothing
  (tmp_path / "answer").mkdir()
  (out / "private").rename(tmp_path / "answer" / level)
  assert challenges.main(["score", f"--challenge={out}",
                          f"--submission={tmp_path / 'answer'}"]) == 2
  assert "does not hold" in capsys.readouterr().err
  (tmp_path / "answer" / level).rename(out / "private")
  (tmp_path / "answer" / level).mkdir()
  for path in (out / "private").iterdir():
    (tmp_path / "answer" / level / path.name).write_bytes(path.read_bytes())
  (row,) = challenges.score(out, tmp_path / "answer")
  assert row["won"] and row["ssim"] == pytest.approx(1)
  Image.fromarray(photo(32, 32)).save(tmp_path / "answer" / level / "000.png")
  with pytest.raises(UserError, match="32x32 pixels"):
    challenges.score(out, tmp_path / "answer")


def test_too_few_images_for_the_levels_are_refused(tmp_path):
  Image.fromarray(photo(40, 50)).save(tmp_path / "me.png")
  with pytest.raises(UserError, match="holds 1 image files; at least 5"):
    challenges.make(tmp_path, tmp_path / "out")


def test_every_level_is_of_a_scheme_that_the_suite_attacks():
  attacked = config_file.get_config().schemes
  assert {scheme for scheme, _ in challenges.LEVELS.values()} <= set(attacked)
