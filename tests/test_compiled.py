"""Where compiled programs are kept, and where they are not."""

from collections import Counter

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from ppseg_jax import compiled
from tests.helpers import TINY, run_main


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """A home without a folder of programs; jax's settings come back after."""
  names = ("jax_compilation_cache_dir", "jax_disable_most_optimizations",
           "jax_persistent_cache_min_compile_time_secs")
  before = {name: jax.config.values[name] for name in names}
  jax.config.update(names[0], None)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  yield tmp_path / "ppseg_jax"
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def test_programs_are_kept_where_only_their_owner_can_write(cache):
  compiled.keep()
  (folder,) = cache.iterdir()
  assert jax.config.jax_compilation_cache_dir == str(folder)
  for each in (cache, folder):
    assert each.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("spoil", [
    lambda cache: (cache.mkdir(), cache.chmod(0o777)),
    lambda cache: (cache.mkdir(), cache.chmod(0o720)),
    lambda cache: cache.symlink_to(cache.parent),
    lambda cache: cache.touch(),
])
def test_programs_are_not_kept_where_others_could_write(spoil, cache):
  spoil(cache)
  compiled.keep()
  assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_jax_was_given_stays(cache, tmp_path):
  jax.config.update("jax_compilation_cache_dir", str(tmp_path / "given"))
  compiled.keep()
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / "given")
  assert not cache.exists()


def test_a_second_start_of_a_command_compiles_nothing_anew(
    cache, mini, tmp_path, monkeypatch
):
  monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
                     raising=False)
  jax.config.update("jax_disable_most_optimizations", True)  # to save time
  happened = Counter()

  def count(event, **_):
    happened[event.rpartition("/")[2]] += 1

  def start(workdir):
    jax.clear_caches()
    compilation_cache.reset_cache()
    happened.clear()
    done = run_main(
        "--config=configs/setr_plain.py", *TINY, "--config.steps=1",
        "--config.eval.boundary=False",
        f"--workdir={tmp_path / workdir}",
    )
    assert done.returncode == 0, done.stderr
    assert "step 1/1  done" in done.stdout  # and how long that took
    return happened["compile_requests_use_cache"], happened["cache_hits"]

  jax.monitoring.register_event_listener(count)
  try:
    wanted, found = start("one")
    assert found < wanted and any(cache.rglob("*update*"))
    wanted, found = start("two")
    assert found == wanted > 4
  finally:
    jax.monitoring.unregister_event_listener(count)
