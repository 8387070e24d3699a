"""What holds for every test: one cache of compiled programs, and its end."""

import os
import shutil
import tempfile

import pytest

_CACHE = "JAX_COMPILATION_CACHE_DIR"
_made = []


def pytest_configure():
  """A folder of compiled programs for all processes of this test run.

  JAX reads the environment when it is imported, which is later; workers of
  pytest-xdist and the commands that tests start inherit it. The folder holds
  what is run, so it is this user's alone (0700), and gone afterwards. One that
  is named from outside is used instead.
  """
  if _CACHE not in os.environ:
    _made.append(tempfile.mkdtemp(prefix="ppseg_jax-tests-"))
    os.environ[_CACHE] = _made[0]
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"


def pytest_unconfigure():
  for folder in _made:
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def _programs_end_with_their_file():
  """One process runs all files, and would keep the programs of them all.

  And the memory of all trainings, see `memory.keep`.
  """
  from ppseg_jax import memory

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(memory, "keep", lambda: None)
    yield
  import jax  # late: see pytest_configure

  jax.clear_caches()


@pytest.fixture
def mini(monkeypatch):
  """A size that compiles in a second, in the place of `demo`."""
  from ppseg_jax.models.vit import SIZES, Size

  monkeypatch.setitem(SIZES, "demo", Size(32, 4, 2))
