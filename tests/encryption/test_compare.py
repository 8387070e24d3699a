"""The order of schemes by what they show."""

import functools

import jax
import numpy as np
import pytest

from ppseg_jax.encryption import (
    SCHEMES,
    PixelShuffle,
    RotateFlip,
    Scheme,
    canonical,
    canonical_steps,
    get_scheme,
    reference,
)
from ppseg_jax.encryption.compare import shows_no_more
from ppseg_jax.errors import UserError

BLOCK = 4
# Of each of the first the canonical form is computed from ciphertexts of each
# of the second; few of the first, since those are compiled.
READ = ("blockwise_value", "blockwise_negative", "blockwise_hidden")
SENT = ("le", "pe", "independent", "blockwise", "blockwise_pixel",
        "blockwise_bands2", "etc", "etc_madono", "aso2024_unscrambled")


@functools.cache
def ciphertexts() -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """An image 8 times, and 8 ciphertexts of it by scheme, [8, H, W, 3]."""
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (4 * BLOCK, 2 * BLOCK, 3), np.uint8)
  keys = rng.integers(0, 2**32, (8, 4), np.uint32)
  return np.stack([image] * 8), {
      name: np.stack([
          reference.encrypt(get_scheme(name), key, image, BLOCK) for key in keys
      ]) for name in SENT
  }


@pytest.mark.parametrize("name", READ)
def test_a_scheme_shows_no_more_where_its_form_follows_from_a_ciphertext(name):
  image, sent = ciphertexts()
  form = jax.jit(functools.partial(canonical, name, block=BLOCK))
  for limit, seen in sent.items():
    follows = bool((form(seen) == form(image)).all())
    assert shows_no_more(name, BLOCK, limit, BLOCK) == follows, limit


def test_the_schemes_of_this_package_are_ordered_as_their_names_say():
  def below(limit, block=8):
    return {name for name in SCHEMES if shows_no_more(name, 8, limit, block)}

  assert below("plain") == set(SCHEMES)
  assert below("blockwise") == {
      "blockwise", "blockwise_value", "blockwise_negative",
      "blockwise_scrambled", "ele",
  }
  assert below("blockwise_value") == {"blockwise_value", "ele"}
  assert below("blockwise_pixel") == below("blockwise") | {"blockwise_pixel"}
  assert below("independent") == {
      "independent", "kiya2022", "sueyoshi2025", "blockwise_value", "ele"
  }


@pytest.mark.parametrize("name", [
    name for name in SCHEMES if name not in ("plain", "etc_madono")
])
def test_a_hidden_layout_shows_no_more_than_the_scheme_itself(name):
  for hidden in (f"{name}_hidden", f"{name}_bands2"):
    try:
      canonical_steps(hidden)
    except UserError:
      assert not shows_no_more(hidden, 8, name, 8)
      continue
    assert shows_no_more(hidden, 8, name, 8)
    scrambles = name in ("ele", "etc", "blockwise_scrambled")
    assert shows_no_more(name, 8, hidden, 8) == scrambles


def test_larger_blocks_and_regions_show_no_more_and_smaller_ones_do():
  assert shows_no_more("blockwise", 16, "blockwise", 8)
  assert not shows_no_more("blockwise", 8, "blockwise", 16)
  assert not shows_no_more("blockwise", 12, "blockwise", 8)
  assert not shows_no_more("blockwise_value", 16, "pe", 8)
  assert shows_no_more("blockwise_bands4", 8, "blockwise_bands2", 8)
  assert not shows_no_more("blockwise_bands2", 8, "blockwise_bands4", 8)
  assert not shows_no_more("blockwise_bands3", 8, "blockwise_bands2", 8)
  assert shows_no_more("blockwise_hidden", 8, "blockwise_bands3", 8)
  assert not shows_no_more("blockwise_hidden", 16, "blockwise_hidden", 8)


def test_cells_count_as_blocks_of_their_size():
  cells = Scheme("cells", (PixelShuffle("channel", "block", cell=8),), "", "")
  turns = Scheme("turns", (RotateFlip("image", cell=4),), "", "")
  assert shows_no_more(cells, 16, "blockwise", 8)
  assert shows_no_more("blockwise", 8, cells, 16)
  assert not shows_no_more(cells, 16, "blockwise", 16)
  assert shows_no_more("blockwise", 8, turns, 8)
  assert not shows_no_more(turns, 8, "blockwise", 8)


def test_a_level_shows_less_the_coarser_it_is():
  assert shows_no_more("blockwise_q4", 8, "blockwise", 8)
  assert not shows_no_more("blockwise", 8, "blockwise_q4", 8)
  assert shows_no_more("blockwise_q1", 8, "blockwise_q4", 8)
  assert not shows_no_more("blockwise_q4", 8, "blockwise_q1", 8)
  assert not shows_no_more("blockwise_q1", 16, "blockwise_q1", 8)
  assert shows_no_more("blockwise_q4_hidden", 8, "blockwise_q4", 8)
  assert not shows_no_more("blockwise_value_q12", 8, "blockwise_q4", 8)
