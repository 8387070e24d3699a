"""Levels: what they leave, that nothing else shows, and how they nest."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppseg_jax.encryption import (
    at_level,
    canonical,
    decrypt,
    encrypt,
    get_scheme,
    key_from_seed,
    leaks,
    reference,
)
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.encryption.levels import Level, nested, numbers, parse
from ppseg_jax.encryption.schemes import shown
from ppseg_jax.errors import UserError
from ppseg_jax.testing import check_scheme

BLOCK, SHAPE = 4, (8, 16, 3)  # 2 x 4 blocks
NAMES = ("blockwise_q4", "blockwise_q2b5", "blockwise_b3", "blockwise_m2q8b2",
         "blockwise_value_q12", "blockwise_value_m2q3b4")


def left(name, image):
  """The image that carries the level, by the reference."""
  h, w, c = image.shape
  (level,) = get_scheme(name).ops[:-1] or (Level("channel"),)
  blocks = split(image[None], BLOCK)[0].reshape(-1, BLOCK**2, c)
  found = reference.leave(level, blocks, (h // BLOCK, w // BLOCK))
  return join(found.reshape(1, -1, BLOCK, BLOCK, c),
              (h // BLOCK, w // BLOCK))[0]


def drawn(seed, shape=SHAPE):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_a_ciphertext_shows_the_level_and_the_reference_makes_the_same(name):
  image, key = drawn(0), key_from_seed(3)
  cipher = np.asarray(encrypt(name, key, image, BLOCK))
  np.testing.assert_array_equal(cipher, reference.encrypt(
      get_scheme(name), np.asarray(jax.random.key_data(key)), image, BLOCK
  ))
  form = jax.jit(lambda x: canonical(name, x, BLOCK))
  np.testing.assert_array_equal(form(cipher), form(image))
  carried = left(name, image)
  blocks = split(carried[None], BLOCK).reshape(form(image).shape)
  np.testing.assert_array_equal(form(image), blocks)
  base = name.rpartition("_")[0]
  np.testing.assert_array_equal(
      canonical(base, np.stack([cipher, carried]), BLOCK)[0], blocks
  )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(NAMES))
def test_the_image_of_a_level_is_a_function_of_its_value(seed, name):
  rng = np.random.default_rng(seed)
  image = drawn(seed)
  carried = left(name, image)
  np.testing.assert_array_equal(left(name, carried), carried)
  blocks = split(image[None], BLOCK)
  shape = blocks.shape
  unit = (0, 1, 4, 3, 2) if "value" not in name else (0, 1, 2, 3, 4)
  rows = blocks.transpose(unit)  # the values of a unit last
  length = BLOCK**2 * (3 if "value" in name else 1)
  mixed = rng.permuted(rows.reshape(-1, length), axis=1).reshape(rows.shape)
  other = join(mixed.transpose(unit).reshape(shape), (2, 4))[0]
  np.testing.assert_array_equal(left(name, other), carried)


def test_means_are_means_and_no_level_is_lighter_than_another():
  images = drawn(1, (128, 128, 3))
  for name in ("blockwise_q4", "blockwise_q1", "blockwise_m2q1"):
    assert abs(left(name, images).mean() - images.mean()) < 0.1
  means = images.reshape(32, 4, 32, 4, 3).mean((1, 3))
  found = left("blockwise_q1", images)[::4, ::4].astype(float)
  assert np.abs(found - means).max() < 2


PAIRS = [("", "q4"), ("q16", "q4"), ("q4", "q1"), ("q4", "q4b5"),
         ("q4b5", "q4b2"), ("", "m2"), ("m2", "m4q2"), ("", "b3"),
         ("b5", "b3"), ("q8", "q2b4")]
NOT_NESTED = [("q4", "q8"), ("q4b5", "q2b5"), ("m2", "q4"), ("q4", "m2q4"),
              ("b5", "q4"), ("q4", ""), ("q4b3", "q4b5")]


@pytest.mark.parametrize("finer, coarser", PAIRS)
def test_a_coarser_level_is_a_function_of_a_finer(finer, coarser):
  image = drawn(2, (16, 16, 3))
  name = lambda level: f"blockwise_{level}" if level else "blockwise"
  np.testing.assert_array_equal(
      left(name(coarser), left(name(finer), image)), left(name(coarser), image)
  )
  one, other = (parse(x, "channel") if x else Level("channel")
                for x in (finer, coarser))
  assert nested(one, other, BLOCK**2)


@pytest.mark.parametrize("finer, coarser", NOT_NESTED)
def test_levels_that_do_not_nest_are_not_said_to(finer, coarser):
  one, other = (parse(x, "channel") if x else Level("channel")
                for x in (finer, coarser))
  assert not nested(one, other, BLOCK**2)


def test_nothing_but_the_level_shows_in_the_distribution():
  check_scheme("blockwise_q2b4", draws=1000)


def test_the_leak_is_said_with_its_numbers():
  assert leaks("blockwise_q4b5").startswith(
      "For each block, at its place, and each channel the means of 4 groups of"
      " the sorted values, 5 bits of each"
  )
  assert "at its place" not in leaks("blockwise_q4_hidden")
  assert numbers(parse("q4", "channel"), 96, 128, 8) == 192 * 3 * 4
  assert numbers(parse("m2q4", "value"), 96, 128, 8) == 48 * 4


@pytest.mark.parametrize("name, words", [
    ("blockwise_q0", "at least 1"), ("blockwise_b9", "b is 1 to 8"),
    ("blockwise_pixel_q4", "has no levels"),
    ("blockwise_m2_hidden", "without m"),
])
def test_what_is_no_level_is_refused_with_its_reason(name, words):
  with pytest.raises(UserError, match=words):
    get_scheme(name)


def test_images_that_do_not_divide_are_refused_and_nothing_is_decrypted():
  with pytest.raises(UserError, match="choose a q that divides 16"):
    canonical("blockwise_q5", drawn(0), BLOCK)
  with pytest.raises(UserError, match="2x2 blocks together"):
    canonical("blockwise_m2", drawn(0, (12, 16, 3)), BLOCK)
  with pytest.raises(UserError, match="uint8"):
    canonical("blockwise_q4", np.zeros(SHAPE, np.float32), BLOCK)
  with pytest.raises(UserError, match="no key brings"):
    decrypt("blockwise_q4", key_from_seed(0), drawn(0), BLOCK)


def test_a_level_without_its_hidden_layout_is_named():
  assert shown("blockwise_q4_hidden") == "blockwise_q4"
  assert at_level("blockwise_bands2", "q4") == get_scheme(
      "blockwise_q4_bands2"
  )
