"""Protected regions: they invert, show one histogram, and leave the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppseg_jax.encryption import (
    canonical,
    encrypt,
    get_scheme,
    key_from_seed,
    regions,
    representative,
)
from ppseg_jax.encryption.blocks import split
from ppseg_jax.encryption.keys import derive
from ppseg_jax.encryption.testing import check_same_distribution
from ppseg_jax.errors import UserError

BLOCK, SHAPE = 4, (16, 24, 3)  # 4 x 6 blocks
UNITS = ("blockwise", "blockwise_value", "blockwise_pixel")


def drawn(seed, shape=SHAPE):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def masked(*boxes, shape=SHAPE[:2]):
  mask = np.zeros(shape, bool)
  for left, top, right, bottom in boxes:
    mask[top:bottom, left:right] = True
  return mask


CELLS = regions.cells_of(masked((5, 3, 7, 9), (20, 14, 21, 15)), BLOCK, 2)


def test_every_cell_of_which_a_pixel_is_named_is_protected_as_a_whole():
  np.testing.assert_array_equal(CELLS, [
      [1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0],
      [4, 4, 0, 0, 6, 6], [4, 4, 0, 0, 6, 6],
  ])
  mask = masked((5, 3, 7, 9), (20, 14, 21, 15), (8, 12, 9, 13))
  np.testing.assert_array_equal(regions.cells_of(mask, BLOCK, regions.REGION), [
      [0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0],
      [0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 2],
  ])


def test_cells_end_where_the_image_does_and_keep_a_levels_squares_whole():
  mask = masked((20, 14, 21, 15))
  cut = regions.cells_of(mask, BLOCK, 4)
  assert (cut > 0).sum() == 8 and cut.max() == 2
  whole = regions.cells_of(mask, BLOCK, regions.REGION, "blockwise_m2q4")
  assert (whole > 0).sum() == 4
  with pytest.raises(UserError, match="cut the squares of 4x4"):
    regions.cells_of(mask, BLOCK, 2, "blockwise_m4")


merge = jax.jit(regions.merge, static_argnums=(0, 4))
seal = jax.jit(regions.encrypt, static_argnums=(0, 4))
unseal = jax.jit(regions.decrypt, static_argnums=(0, 4))


@pytest.mark.parametrize("name", (*UNITS[1:], "blockwise_hidden"))
def test_decrypt_inverts_encrypt(name):
  images = np.stack([drawn(0), drawn(1)])
  keys = jax.vmap(lambda i: derive(key_from_seed(3), i))(jnp.arange(2))
  cells = np.stack([CELLS, np.zeros_like(CELLS)])
  sealed = seal(name, keys, images, cells, BLOCK)
  np.testing.assert_array_equal(
      unseal(name, keys, sealed, cells, BLOCK), images
  )
  assert (np.asarray(sealed) != images).any((1, 2, 3)).all()


def test_blocks_outside_are_bit_for_bit_as_without_regions():
  images = np.stack([drawn(2), drawn(2)])
  keys = jnp.stack([key_from_seed(5)] * 2)
  cells = np.stack([CELLS, np.zeros_like(CELLS)])
  without = encrypt("blockwise", keys[0], images[0], BLOCK)
  sealed = seal("blockwise", keys, images, cells, BLOCK)
  np.testing.assert_array_equal(sealed[1], without)
  first, second = split(np.asarray(sealed), BLOCK)
  inside = CELLS.ravel() > 0
  np.testing.assert_array_equal(first[~inside], second[~inside])
  assert all((a != b).any() for a, b in
             zip(first[inside], second[inside], strict=True))


@pytest.mark.parametrize("name", UNITS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_values_stay_in_their_cell_and_dealing_is_a_function_of_them(
    seed, name
):
  image = drawn(seed)
  dealt = regions.deal(name, image, CELLS, BLOCK)
  mixed = np.asarray(merge(name, key_from_seed(seed), image, CELLS, BLOCK))
  np.testing.assert_array_equal(
      regions.deal(name, mixed, CELLS, BLOCK), dealt
  )
  where = np.kron(CELLS, np.ones((BLOCK, BLOCK), int))
  for number in np.unique(CELLS):
    before, after = image[where == number], mixed[where == number]
    if number == 0:
      np.testing.assert_array_equal(after, before)
    elif name == "blockwise":
      np.testing.assert_array_equal(np.sort(after, 0), np.sort(before, 0))
    elif name == "blockwise_value":
      np.testing.assert_array_equal(
          np.sort(after, None), np.sort(before, None)
      )
    else:
      assert sorted(map(tuple, after)) == sorted(map(tuple, before))


@pytest.mark.parametrize("name, channels", [
    ("blockwise", 1), ("blockwise_value", 2),
])
def test_the_distribution_depends_on_the_cells_values_alone(name, channels):
  """Two images whose cell holds the same values, each in another block."""
  block, draws = 2, 3000
  cells = np.array([[1, 1]])
  one, other = np.zeros((2, 2, 4, channels), np.uint8)
  one[0, 0], one[0, 1] = 200, 90
  other[0, 0], other[1, 3] = 90, 200
  sealed = jax.jit(lambda keys, images: jax.vmap(
      lambda k, x: regions.encrypt(name, k, x, cells, block)
  )(keys, images))
  counts = {}
  for column, image in enumerate((one, other)):
    keys = jax.vmap(lambda i, c=column: derive(key_from_seed(c), i))(
        jnp.arange(draws)
    )
    found = sealed(keys, jnp.broadcast_to(image, (draws, *image.shape)))
    for each in np.asarray(found):
      counts.setdefault(each.tobytes(), [0, 0])[column] += 1
  table = np.array(list(counts.values()), float)
  check_same_distribution(table, name)
  # Without regions the same test tells them apart.
  apart = jax.jit(lambda x: canonical(name, x, block))
  assert (apart(one) != apart(other)).any()
  if channels == 1:
    assert len(table) == 56  # two places of eight, in order: all come


def test_a_region_shows_one_histogram_to_who_reads_the_form():
  """Its blocks are samples of it: equal ones once they are dealt."""
  image = drawn(4)
  image[:8, :8] = np.repeat(drawn(5, (1, 4, 3)), 16, 1).reshape(8, 8, 3)
  dealt = regions.deal("blockwise", image, CELLS, BLOCK)
  blocks = split(
      np.asarray(representative("blockwise", dealt, BLOCK))[None], BLOCK
  )[0]
  for number in np.unique(CELLS[CELLS > 0]):
    first, *others = blocks[CELLS.ravel() == number].astype(int)
    for each in others:
      assert np.abs(first - each).max() <= 255 and first.shape == each.shape
      assert (np.sort(first[..., 0], None)[1:]
              >= np.sort(each[..., 0], None)[:-1]).all()


def test_a_mask_survives_its_text_and_other_texts_are_none():
  for cell in (2, 4, regions.REGION):
    cells = regions.cells_of(masked((5, 3, 7, 9)), BLOCK, cell)
    text = regions.to_text(cells, cell)
    np.testing.assert_array_equal(regions.from_text(text, 4, 6), cells)
  assert len(regions.to_text(np.ones((45, 60), int), 2)) < 60
  assert regions.to_text(np.zeros((4, 6), int), 2) == ""
  good = regions.to_text(CELLS, 2)
  for bad in ("2", "x:eJw=", "2:!", "2:" + good[2:-8], "1" + good[1:],
              "99999" + good[1:], good + "AAAA"):
    with pytest.raises(ValueError):
      regions.from_text(bad, 4, 6)
  with pytest.raises(ValueError):
    regions.from_text(good, 8, 16)


@pytest.mark.parametrize("name", ("etc", "le", "independent", "aso2024", "ele"))
def test_schemes_that_do_not_shuffle_whole_blocks_are_refused(name):
  with pytest.raises(UserError, match="has no protected regions"):
    regions.encrypt(name, key_from_seed(0), drawn(0), CELLS, BLOCK)


def test_cells_that_do_not_fit_are_refused():
  with pytest.raises(UserError, match="one number for each block"):
    regions.encrypt("blockwise", key_from_seed(0), drawn(0), CELLS[:2], BLOCK)
  with pytest.raises(UserError, match="protect nothing"):
    regions.cells_of(masked(), BLOCK, 1)


def test_what_regions_show_is_said():
  said = regions.leaks("blockwise_q4", 2)
  assert "where the protected regions lie" in said.lower()
  assert "one histogram of each channel for each cell of 2x2 blocks" in said
  assert said.endswith(get_scheme("blockwise_q4").leaks)
  assert "for each region" in regions.leaks("blockwise_value", regions.REGION)
