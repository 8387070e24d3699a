"""Differential privacy: the sensitivity, the noise, and what is made of it."""

import itertools
from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppseg_jax import encryption
from ppseg_jax.encryption import key_from_seed, noise, private, reference
from ppseg_jax.encryption.blocks import split
from ppseg_jax.encryption.noise import (
    Words,
    bernoulli_exp,
    discrete_gaussian,
    discrete_laplace,
)
from ppseg_jax.encryption.private import Budget, release
from ppseg_jax.errors import UserError

BLOCK = 4
PAIR = st.integers(0, 2**32 - 1)


def drawn(seed, shape=(8, 8, 3)):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def group_sums(image, groups):
  blocks = np.sort(split(image[None], BLOCK).reshape(-1, BLOCK**2, 3), axis=1)
  return blocks.astype(int).reshape(-1, groups, BLOCK**2 // groups, 3).sum(2)


@settings(max_examples=60, deadline=None)
@given(PAIR, st.integers(1, 20), st.sampled_from([1, 4, 16]), st.booleans())
def test_no_neighbour_moves_the_sums_further_than_the_noise_is_scaled_for(
    seed, pixels, groups, extreme
):
  rng = np.random.default_rng(seed)
  image = drawn(seed)
  if extreme:
    image = np.where(image < 128, 0, 255).astype(np.uint8)
  other = image.reshape(-1, 3).copy()
  where = rng.choice(len(other), pixels, replace=False)
  other[where] = 255 - image.reshape(-1, 3)[where] if extreme else (
      rng.integers(0, 256, (pixels, 3))
  )
  moved = np.abs(group_sums(image, groups)
                 - group_sums(other.reshape(image.shape), groups))
  assert moved.sum() <= 255 * pixels * 3
  assert (moved**2).sum() <= 3 * (255 * pixels) ** 2


@settings(max_examples=60, deadline=None)
@given(PAIR, st.integers(1, 20), st.integers(1, 4), st.booleans())
def test_no_neighbour_moves_the_counts_further_than_the_noise_is_scaled_for(
    seed, pixels, bits, extreme
):
  rng = np.random.default_rng(seed)
  image = np.zeros((8, 8, 3), np.uint8) if extreme else drawn(seed)
  other = image.copy()
  where = rng.choice(64, pixels, replace=False)
  other.reshape(-1, 3)[where] = 255 if extreme else (
      rng.integers(0, 256, (pixels, 3))
  )
  moved = np.abs(counts(image, bits) - counts(other, bits))
  budget = Budget(pixels, epsilon=Fraction(1))
  assert moved.sum() <= budget.scale(3, True) == 6 * pixels
  assert (moved**2).sum() <= 6 * pixels**2
  assert Budget(pixels, rho=Fraction(1, 2)).variance(3, True) == 6 * pixels**2
  if extreme and pixels == 1:
    assert moved.sum() == 6


def counts(image, bits):
  blocks = split(image[None], BLOCK).reshape(-1, BLOCK**2, 3) >> (8 - bits)
  return (blocks[:, :, None] == np.arange(2**bits)[:, None]).sum(1).astype(int)


def chi_square(found, expected):
  often = expected >= 5
  found = np.append(found[often], found[~often].sum())
  expected = np.append(expected[often], expected[~often].sum())
  return ((found - expected) ** 2 / expected).sum(), often.sum()


@pytest.mark.parametrize("draw, weight", [
    (lambda words, n: discrete_laplace(words, Fraction(7, 2), n),
     lambda y: np.exp(-np.abs(y) / 3.5)),
    (lambda words, n: discrete_gaussian(words, Fraction(20), n // 4),
     lambda y: np.exp(-(y**2) / 40)),
])
def test_noise_has_its_distribution(draw, weight):
  found = draw(Words(key_from_seed(1)), 40_000)
  y = np.arange(-200, 201)
  share = weight(y) / weight(y).sum()
  statistic, degrees = chi_square(
      np.bincount(found + 200, minlength=401), share * len(found)
  )
  assert statistic < degrees + 5 * np.sqrt(2 * degrees)


def test_a_chance_of_exp_minus_x_is_that():
  words = Words(key_from_seed(2))
  for over, under in ((0, 5), (1, 3), (1, 1)):
    found = bernoulli_exp(words, np.full(20_000, over), under).mean()
    assert abs(found - np.exp(-over / under)) < 0.02


def test_the_noise_is_of_the_keystream_of_the_format():
  key = key_from_seed(7)
  words = np.asarray(jax.random.key_data(key))
  found = noise.threefry(words, (np.arange(4), 9, 5, reference.ENCRYPT))
  np.testing.assert_array_equal(
      np.concatenate(found), reference.words(words, 5, 9, 16)
  )
  np.testing.assert_array_equal(
      jax.random.key_data(noise.derive(key, 4, 2**31)),
      reference.derive(words, 4, 2**31),
  )


@pytest.mark.parametrize("scale", [1, 2**70])
def test_a_chance_is_that_fraction_however_large_its_numbers(scale):
  words = Words(key_from_seed(2))
  over = np.arange(6).repeat(4000).astype(object) * scale
  found = words.chance(over, 5 * scale).reshape(6, -1).mean(1)
  assert found[0] == 0 and found[5] == 1
  np.testing.assert_allclose(found, np.arange(6) / 5, atol=0.04)


def test_a_release_is_a_function_of_the_sums_and_the_key():
  image, budget = drawn(0), Budget(4, epsilon=Fraction(50))
  other = image.reshape(2, 4, 2, 4, 3)[:, ::-1].reshape(8, 8, 3)
  key = key_from_seed(3)
  first = release(image, key, budget, BLOCK, groups=4)
  np.testing.assert_array_equal(first, release(other, key, budget, BLOCK, 4))
  assert (first != release(image, key_from_seed(4), budget, BLOCK, 4)).any()
  rows = split(first[None], BLOCK).reshape(-1, 4, 4, 3)
  assert (rows == rows[:, :, :1]).all() and (np.diff(rows, axis=1) >= 0).all()


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_a_noisy_histogram_is_an_image_of_its_level(bits):
  image, key = drawn(0), key_from_seed(3)
  other = image.reshape(2, 4, 2, 4, 3)[:, ::-1].reshape(8, 8, 3)
  little = Budget(1, epsilon=Fraction(1))
  first = release(image, key, little, BLOCK, bits=bits)
  np.testing.assert_array_equal(
      first, release(other, key, little, BLOCK, bits=bits)
  )
  carried = encryption.release("blockwise", f"b{bits}", first[None], BLOCK)[0]
  np.testing.assert_array_equal(
      np.sort(split(carried[None], BLOCK).reshape(-1, 16, 3), 1),
      np.sort(split(first[None], BLOCK).reshape(-1, 16, 3), 1),
  )
  much = release(image, key, Budget(1, epsilon=Fraction(1000)), BLOCK,
                 bits=bits)
  np.testing.assert_array_equal(counts(much, bits), counts(image, bits))
  assert (counts(first, bits) != counts(image, bits)).any()


def test_noisy_counts_become_those_of_the_nearest_histogram():
  noisy = np.array([[[9], [-3], [5], [4]], [[-9], [-8], [-7], [-9]],
                    [[40], [0], [0], [1]]])
  every = np.array([counts for counts in itertools.product(range(17), repeat=4)
                    if sum(counts) == 16])
  for x, y in zip(private._drawn_from(noisy, 16), noisy, strict=True):
    made = np.bincount(x.ravel() >> 6, minlength=4)
    nearest = ((every - y.ravel())**2).sum(1).min()
    assert ((made - y.ravel())**2).sum() == nearest


def test_less_noise_comes_nearer_and_much_budget_gives_the_means():
  image, key = drawn(5, (32, 32, 3)), key_from_seed(6)
  means = group_sums(image, 1) / BLOCK**2

  def error(**budget):
    found = release(image, key, Budget(1, **budget), BLOCK)
    return np.abs(group_sums(found, 1) / BLOCK**2 - means).mean()

  for kind in ("epsilon", "rho"):
    assert error(**{kind: Fraction(1000)}) < 1
    assert error(**{kind: Fraction(1000)}) < error(**{kind: Fraction(10)})
    assert error(**{kind: Fraction(10)}) < error(**{kind: Fraction(1, 10)})


def test_budgets_add_up_over_pictures():
  assert Budget(4, epsilon=Fraction(1, 2)).composed(16) == ("epsilon 8", 8.0)
  text, epsilon = Budget(4, rho=Fraction(1, 8)).composed(4, delta=1e-6)
  assert text.startswith("rho 0.5") and 5 < epsilon < 6


@pytest.mark.parametrize("make, words", [
    (lambda: Budget(0, epsilon=Fraction(1)), "pixels=0"),
    (lambda: Budget(1), "either an epsilon or a rho"),
    (lambda: Budget(1, epsilon=Fraction(0)), "above 0"),
    (lambda: release(drawn(0), key_from_seed(0), Budget(1, Fraction(1)), 4, 5),
     "groups=5"),
    (lambda: release(drawn(0), key_from_seed(0), Budget(1, Fraction(1)), 4,
                     bits=9), "bits=9"),
    (lambda: release(drawn(0), key_from_seed(0), Budget(1, Fraction(1)), 4, 4,
                     bits=2), "one of the two"),
    (lambda: release(drawn(0), key_from_seed(0), Budget(1, Fraction(1)), 3),
     "multiple of the block size"),
    (lambda: discrete_laplace(Words(key_from_seed(0)), Fraction(10**13), 1),
     "larger epsilon"),
])
def test_what_cannot_be_is_refused(make, words):
  with pytest.raises(UserError, match=words):
    make()


def test_numbers_of_numpy_do_not_wrap_around_in_a_budget():
  for kind in ("epsilon", "rho"):
    wrapped = Budget(np.uint8(200), **{kind: np.int8(2)})
    assert wrapped == Budget(200, **{kind: Fraction(2)})
    assert type(wrapped.pixels) is int
  with pytest.raises(UserError, match="each repetition counts"):
    release(drawn(0, (6, 8, 3)), key_from_seed(0), Budget(1, Fraction(1)), 4)


def test_a_mean_of_releases_is_as_near_as_their_budgets_together_allow():
  image = np.full((32, 32, 3), 128, np.uint8)
  one = Budget(1, epsilon=Fraction(48))
  found = np.stack([
      release(image, key_from_seed(seed), one, BLOCK) for seed in range(16)
  ]).astype(float)
  wanted = one.deviation(3) / BLOCK**2
  for count in (1, 4, 16):
    off = (found[:count].mean(0) - 128)[::BLOCK, ::BLOCK].std()
    assert 0.8 < off * np.sqrt(count) / wanted < 1.2
    # Sixteen releases tell less than one whose noise is a sixteenth, of the
    # budget that they are said to come to.
    together = Budget(1, epsilon=Fraction(one.composed(count)[1]))
    assert off > 0.8 * together.deviation(3) / BLOCK**2


def audited(draws, seed=0, bits=0):
  """The least epsilon that releases of two neighbours have, nearly for certain.

  One pixel of black blocks is white. Each block is a picture of its own here,
  and its release one draw; the events are that the means of all channels are
  above a value, or of none.
  """
  black = np.zeros((2 * draws, 2, 3), np.uint8)
  other = black.copy()
  other[::2, 0] = 255
  one, two = (
      release(image, key_from_seed(seed + number), Budget(1, Fraction(1)), 2,
              bits=bits).reshape(draws, 4, 3).mean(1)
      for number, image in enumerate((black, other))
  )
  found = 0.0
  for bound in range(0, 256, 32):
    for event in (lambda x, b=bound: (x >= b).all(1),
                  lambda x, b=bound: (x < b).all(1)):
      p, q = event(one).mean(), event(two).mean()
      for low, high in ((p, q), (q, p)):
        low += 4 * np.sqrt((low + 1 / draws) / draws)
        high -= 4 * np.sqrt(high / draws)
        found = max(found, np.log(max(high, 1e-9) / low))
  return found


@pytest.mark.parametrize("bits, least, wrong", [(0, 0.5, 1.5), (1, 0.2, 1.1)])
def test_neighbours_are_told_apart_no_better_than_epsilon_says(
    bits, least, wrong, monkeypatch
):
  assert least < audited(8_000, bits=bits) <= 1
  scale = Budget.scale
  # As if one channel alone could change.
  monkeypatch.setattr(
      Budget, "scale", lambda self, _, counts: scale(self, 1, counts)
  )
  assert audited(8_000, bits=bits) > wrong
