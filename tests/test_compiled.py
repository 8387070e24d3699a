"""Where compiled programs are kept, and where they are not."""

import jax
import pytest

from ppseg_jax import compiled


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """A home without a folder of programs; jax's settings come back after."""
  names = ("jax_compilation_cache_dir",
           "jax_persistent_cache_min_compile_time_secs")
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update(names[0], None)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  yield tmp_path / "ppseg_jax"
  for name, value in before.items():
    jax.config.update(name, value)


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
