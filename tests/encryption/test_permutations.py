import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.encryption import fresh_keys, key_from_seed
from ppseg_jax.encryption.permutations import (
    invert,
    permutation,
    position_bits,
    sort_leading,
    tie_bits,
)
from ppseg_jax.encryption.threefry import Stream


def permutations(key, n, columns):
  stream = Stream(jax.random.key_data(key), 512)
  return permutation(stream, n, jnp.arange(columns, dtype=jnp.uint32))


@pytest.mark.parametrize("n, columns", [(1, 3), (2, 1), (48, 7)])
def test_every_column_is_a_permutation_and_invert_undoes_it(n, columns):
  perm = permutations(fresh_keys(1)[0], n, columns)
  identity = np.broadcast_to(np.arange(n)[:, None], (n, columns))
  np.testing.assert_array_equal(np.sort(perm, axis=0), identity)
  undone = np.take_along_axis(np.asarray(perm), np.asarray(invert(perm)), 0)
  np.testing.assert_array_equal(undone, identity)


def test_all_permutations_of_four_come_equally_often():
  columns = 24_000
  perm = np.asarray(permutations(key_from_seed(1), 4, columns))
  seen = Counter(map(tuple, perm.T))
  assert set(seen) == set(itertools.permutations(range(4)))
  expected = columns / 24
  chi_square = sum((n - expected) ** 2 / expected for n in seen.values())
  assert chi_square < 49.7  # 23 degrees of freedom, p = 0.001


def test_each_value_lands_on_each_position_equally_often():
  n, columns = 48, 20_000
  perm = np.asarray(permutations(key_from_seed(2), n, columns))
  counts = np.stack([np.bincount(row, minlength=n) for row in perm])
  expected = columns / n
  chi_square = ((counts - expected) ** 2 / expected).sum()
  degrees = (n - 1) ** 2
  assert abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.float32])
@pytest.mark.parametrize("n", [1, 2, 3, 48, 64])
def test_sort_leading_equals_numpy_sort(n, dtype):
  values = np.random.default_rng(n).integers(0, 256, (n, 3, 5)).astype(dtype)
  values[n // 2] = 255  # as large as the padding
  np.testing.assert_array_equal(
      jax.jit(sort_leading)(values), np.sort(values, axis=0)
  )


def test_columns_do_not_depend_on_jit():
  key = key_from_seed(3)
  jitted = jax.jit(permutations, static_argnums=(1, 2))(key, 12, 5)
  np.testing.assert_array_equal(permutations(key, 12, 5), jitted)


@pytest.mark.parametrize("n", [2, 3, 48, 64, 256, 768, 3072, 8192, 131072])
def test_distance_from_uniform_is_below_two_to_the_minus_twenty(n):
  bits = 32 - position_bits(n) + tie_bits(n)
  assert n * (n - 1) / 2 * 2.0 ** -(bits + 1) <= 2.0**-20


def test_both_ways_to_sort_obey_one_rule():
  """Few columns go through lax.sort, many through the network."""
  key = key_from_seed(4)
  many = permutations(key, 1000, 100)
  np.testing.assert_array_equal(permutations(key, 1000, 3), many[:, :3])


def test_ties_are_broken_by_the_second_draw(monkeypatch):
  """With keys of one bit nearly all are tied: still uniform, and one rule."""
  original = Stream.words

  def coarse(self, n, columns, draw=0):
    words = original(self, n, columns, draw)
    return words if draw else words >> 31 << 31

  monkeypatch.setattr(Stream, "words", coarse)
  key = key_from_seed(5)
  many = np.asarray(permutations(key, 100, 2000))
  np.testing.assert_array_equal(permutations(key, 100, 3), many[:, :3])
  counts = np.stack([np.bincount(row, minlength=100) for row in many])
  chi_square = ((counts - 20) ** 2 / 20).sum()
  assert abs(chi_square - 99**2) < 4 * np.sqrt(2 * 99**2)


def test_invert_of_more_places_than_half_a_word_holds():
  perm = np.stack([np.roll(np.arange(66_000), i) for i in range(8)], 1)
  found = np.asarray(invert(jnp.asarray(perm, jnp.int32)))
  undone = np.take_along_axis(perm, found, 0)
  assert (undone == np.arange(66_000)[:, None]).all()
