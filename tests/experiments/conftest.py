"""A suite without training, for the tests of its parts."""

import pytest

from ppseg_jax.experiments import suite
from tests.experiments.helpers import SUITE


@pytest.fixture
def runs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # what comes along is found from any folder
  path = tmp_path / "suite.py"
  path.write_text(SUITE)
  return suite.load(str(path))
