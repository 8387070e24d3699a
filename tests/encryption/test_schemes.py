"""Schemes: found by name or file, and what is said of them."""

import os

import numpy as np
import pytest

from ppseg_jax.attacks import targets
from ppseg_jax.encryption import (
    KEY_PLANS,
    SCHEMES,
    encrypt,
    get_scheme,
    key_from_seed,
    leaks,
)
from ppseg_jax.encryption.schemes import hide_layout
from ppseg_jax.errors import UserError

FILE = """
from __future__ import annotations
import dataclasses
from typing import ClassVar
from ppseg_jax.encryption import Scheme

@dataclasses.dataclass(frozen=True)
class Turn:
  by: int = 1
  kind: ClassVar[int] = 100

  def encrypt(self, stream, blocks, grid, top=255):
    return blocks[::-1]

  decrypt = encrypt

mine = Scheme(name="mine", ops=(Turn(),), leaks="All.", source="")
taken = Scheme(name="blockwise", ops=(Turn(),), leaks="", source="")
listed = Scheme(name="listed", ops=[Turn()], leaks="", source="")
other = 3
"""


@pytest.fixture
def file(tmp_path):
  (tmp_path / "mine.py").write_text(FILE)
  return tmp_path / "mine.py"


def test_a_scheme_of_a_file_is_one_object_until_the_file_changes(
    file, monkeypatch
):
  one = get_scheme(f"{file}:mine")
  monkeypatch.chdir(file.parent)
  again = get_scheme("mine.py:mine")
  assert again == one and hash(again) == hash(one)
  status = file.stat()
  file.write_text(FILE.replace("All.", "Not"))
  os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
  assert get_scheme("mine.py:mine").leaks == "Not"
  assert not list(file.parent.rglob("*.pyc"))


def test_a_scheme_of_a_file_is_taken_wherever_one_is_named(file):
  image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
  cipher = encrypt(f"{file}:mine", key_from_seed(0), image, 8)
  np.testing.assert_array_equal(cipher, image[::-1, ::-1])
  assert leaks(f"{file}:mine") == "All."
  assert targets.get(f"{file}:mine") is get_scheme(f"{file}:mine")


@pytest.mark.parametrize("name, reason", [
    ("taken", "the name 'blockwise' of another scheme"),
    ("other", "is not a Scheme object"),
    ("listed", "TypeError"),
    ("none", "AttributeError"),
])
def test_what_is_no_scheme_of_its_own_is_refused_by_its_value(
    file, name, reason
):
  with pytest.raises(UserError, match=reason) as error:
    get_scheme(f"{file}:{name}")
  assert str(error.value).startswith(f"scheme='{file}:{name}'")


@pytest.mark.parametrize("content", [
    "import nothing_of_the_kind", "raise SystemExit(3)", "def", "1 / 0",
])
def test_a_file_that_does_not_load_is_refused(tmp_path, content):
  (tmp_path / "broken.py").write_text(content)
  for file in ("broken.py", "none.py"):
    with pytest.raises(UserError, match="cannot be loaded"):
      get_scheme(f"{tmp_path / file}:mine")


@pytest.mark.parametrize("name", SCHEMES)
def test_plans_under_which_a_key_meets_many_pictures_say_so(name):
  said = {plan: leaks(name, plan) for plan in KEY_PLANS}
  assert said["image"] == said["epoch"] == SCHEMES[name].leaks == leaks(name)
  for plan in ("shared", "client"):
    assert said[plan].startswith(SCHEMES[name].leaks)
    keyless = name in ("plain", "hao2025_mix")
    assert ("many pictures" in said[plan]) == (not keyless)


def test_an_unknown_plan_has_no_leaks():
  with pytest.raises(UserError, match="key_plan='daily'"):
    leaks("blockwise", "daily")


def test_nothing_else_is_said_only_of_one_picture_under_a_key_used_once():
  for scheme in (*SCHEMES.values(), hide_layout("blockwise")):
    assert scheme.leaks.count("nothing else") == scheme.leaks.count(
        "of one picture under a key used once, nothing else"
    )
