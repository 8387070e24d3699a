"""What the suite attacks is found by name, its own names first."""

from ppseg_jax.attacks import targets
from ppseg_jax.encryption import SCHEMES


def test_own_names_come_first_and_then_the_library(monkeypatch):
  own = targets.EXTRA["scramble"]
  assert targets.get("scramble") is own
  assert targets.get("blockwise") is SCHEMES["blockwise"]
  monkeypatch.setitem(targets.EXTRA, "blockwise", own)
  assert targets.get("blockwise") is own
