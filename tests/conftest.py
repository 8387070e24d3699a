"""What holds for every test: how programs are compiled, and who runs what."""

import os
import shutil
import tempfile

import pytest

_CACHE = "JAX_COMPILATION_CACHE_DIR"
_made = []


def _prepare_jax() -> None:
  """A folder of compiled programs for all processes of this test run.

  JAX reads the environment when it is imported, which is later; workers of
  pytest-xdist and the commands that tests start inherit it. The folder holds
  what is run, so it is this user's alone (0700), and gone afterwards. One that
  is named from outside is used instead. Small programs are kept as well: they
  are many, and each file of tests asks for them again.

  Programs run once or twice, so LLVM's optimisations cost more than they save.
  """
  if _CACHE not in os.environ:
    _made.append(tempfile.mkdtemp(prefix="ppseg_jax-tests-"))
    os.environ[_CACHE] = _made[0]
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


_prepare_jax()  # not in pytest_configure: other conftest.py import jax before


def pytest_unconfigure():
  for folder in _made:
    shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
  """Neighbours go to one worker, as with --dist=worksteal, unless another way
  is asked for: they share fixtures and programs.
  """
  if config.getvalue("dist") != "load":
    return None
  from xdist.scheduler import WorkStealingScheduling

  return WorkStealingScheduling(config, log)


@pytest.fixture(autouse=True, scope="module")
def _programs_end_with_their_file():
  """One process runs all files, and would keep the programs of them all.

  And the memory of all trainings, see `memory.keep`.
  """
  from ppseg_jax import memory

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(memory, "keep", lambda: None)
    yield
  import jax  # late: see _prepare_jax

  jax.clear_caches()


@pytest.fixture
def mini(monkeypatch):
  """A size that compiles in a second, in the place of `demo`."""
  from ppseg_jax.models.vit import SIZES, Size

  monkeypatch.setitem(SIZES, "demo", Size(32, 4, 2, exact_gelu=False))


@pytest.fixture
def mini_flat(monkeypatch):
  """MINI in the place of `demo`: half as deep, too flat for auxiliary heads."""
  from ppseg_jax.models.vit import SIZES
  from tests.helpers import MINI

  monkeypatch.setitem(SIZES, "demo", MINI)


@pytest.fixture(scope="module")
def mini_file():
  """As `mini_flat`, for a whole file and its fixtures."""
  from ppseg_jax.models.vit import SIZES
  from tests.helpers import MINI

  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(SIZES, "demo", MINI)
    yield
