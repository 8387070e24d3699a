"""Fixtures that several files of tests use."""

import pytest

from ppseg_jax.models.vit import SIZES, Size


@pytest.fixture
def mini(monkeypatch):
  """A size that compiles in a second, in the place of `demo`."""
  monkeypatch.setitem(SIZES, "demo", Size(32, 4, 2))
