"""Augmentation: labels move with the image, by the generator alone."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppseg_jax.data import sizes
from ppseg_jax.data.augment import (
    coloured,
    cut,
    make_augment,
    make_window,
    part_of_image,
    part_of_labels,
)
from ppseg_jax.data.labels import VOID
from ppseg_jax.encryption import (
    SCHEMES,
    BlockScramble,
    NegativePositive,
    NibbleSplit,
    Scheme,
    canonical,
    encrypt,
    get_scheme,
    key_from_seed,
    ops_of,
)
from ppseg_jax.encryption.blocks import to_blocks
from ppseg_jax.encryption.keys import derive
from ppseg_jax.encryption.ops import split as split_halves
from ppseg_jax.encryption.schemes import known_ops
from ppseg_jax.errors import UserError
from tests.data.helpers import Numbers, augmentation


def test_augmentation_keeps_size_and_moves_labels_with_the_image():
  augment = make_augment(augmentation())
  image = np.zeros((8, 12, 3), np.uint8)
  image[:, 6:] = 200
  labels = (image[..., 0] > 100).astype(np.uint8)
  mirrored = 0
  for seed in range(40):
    x, y = augment(np.random.default_rng(seed), image, labels).values()
    assert x.shape == (8, 12, 3) and y.shape == (8, 12)
    counted = y != VOID
    sharp = (x[..., 0] < 20) | (x[..., 0] > 180)
    assert ((x[..., 0] > 100) == (y == 1))[counted & sharp].all()
    mirrored += bool(y[0, 0] == 1 and y[0, -1] == 0)
  assert 5 < mirrored < 35


def test_augmentation_is_a_function_of_its_generator():
  augment = make_augment(augmentation())
  image, labels = Numbers(9)[5]
  one, two, other = (
      augment(np.random.default_rng(seed), image, labels)
      for seed in (1, 1, 2)
  )
  for name in ("image", "label"):
    assert np.array_equal(one[name], two[name])
  assert not np.array_equal(one["image"], other["image"])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_window_is_resized_as_the_whole_would_be(data):
  """Up to rounding of the image; labels to a pixel that is nearest."""
  sides = st.tuples(st.integers(1, 90), st.integers(1, 90))
  own, scaled = data.draw(sides), data.draw(sides)
  seen = tuple(data.draw(st.integers(1, side)) for side in scaled)
  corner = tuple(data.draw(st.integers(0, whole - part))
                 for whole, part in zip(scaled, seen, strict=True))
  rng = np.random.default_rng(data.draw(st.integers(0, 9)))
  image = rng.integers(0, 256, (*own, 3), np.uint8)
  window = tuple(slice(first, first + part)
                 for first, part in zip(corner, seen, strict=True))
  whole = sizes.resize(image, scaled)[window].astype(int)
  assert np.abs(part_of_image(image, scaled, corner, seen) - whole).max() <= 2

  rows, columns = (np.arange(side, dtype=np.uint8) for side in own)
  for axis, numbers in enumerate((
      np.broadcast_to(rows[:, None], own), np.broadcast_to(columns, own)
  )):
    found = part_of_labels(numbers, scaled, corner, seen)
    assert found.shape == seen
    places = (np.arange(*window[axis].indices(99)[:2]) + 0.5) * (
        own[axis] / scaled[axis])
    middles = np.moveaxis(found, axis, 0)[:, 0] + 0.5
    assert np.abs(middles - places).max() <= 0.5 + 1e-9


recolour = jax.jit(coloured)
subkey = jax.jit(derive)


def colours_of(amount, key=0, count=4):
  """A batch before and after `coloured`."""
  rng = np.random.default_rng(2)
  batch = {
      "image": rng.integers(0, 256, (count, 6, 8, 3)).astype(np.uint8),
      "index": np.arange(count, dtype=np.int32) % 3,
      "epoch": np.arange(count, dtype=np.int32) // 3,
  }
  return batch, np.asarray(recolour(key_from_seed(key), batch, amount)["image"])


def by_numpy(image, brightness, contrast, saturation):
  """The definition, in real numbers, rounded once."""
  x = image * brightness
  x = x.mean() + (x - x.mean()) * contrast
  grey = x.mean(-1, keepdims=True)
  return np.clip(grey + (x - grey) * saturation, 0, 255)


@pytest.mark.parametrize("amount", [0.0, 0.5, 1.0])
def test_colours_change_by_three_factors_within_the_amount(amount):
  batch, found = colours_of(amount)
  assert found.dtype == np.uint8
  for image, seen, index, epoch in zip(
      batch["image"], found, batch["index"], batch["epoch"], strict=True
  ):
    words = jax.random.key_data(subkey(key_from_seed(0), epoch, index))[:3]
    factors = 1 + amount * (2 * (np.asarray(words) >> 8) / 2**24 - 1)
    assert np.abs(by_numpy(image, *factors) - seen).max() < 0.51
  assert np.array_equal(batch["image"], found) == (amount == 0)


def test_colours_are_a_function_of_key_epoch_and_index_alone():
  batch, found = colours_of(0.5)
  order = np.array([3, 1, 0, 2])
  again = recolour(
      key_from_seed(0), {name: x[order] for name, x in batch.items()}, 0.5
  )["image"]
  np.testing.assert_array_equal(again, found[order])
  same = {name: x[:1].repeat(4, 0) for name, x in batch.items()}
  for name in ("index", "epoch"):
    other = {name: np.arange(4, dtype=np.int32)}
    images = np.asarray(recolour(key_from_seed(0), same | other, 0.5)["image"])
    np.testing.assert_array_equal(images[0], found[0])
    assert len({image.tobytes() for image in images}) == 4
  assert (colours_of(0.5, key=1)[1] != found).any()


def test_colours_are_spread_evenly_over_their_range():
  """Brightness by the mean, which the other two leave as it is."""
  count = 600
  grey = np.full((count, 1, 1, 3), 100, np.uint8)
  batch = {"image": grey, "index": np.arange(count),
           "epoch": np.zeros(count, np.int32)}
  means = np.asarray(recolour(key_from_seed(4), batch, 0.5)["image"])[:, 0, 0]
  assert (means == means[:, :1]).all()
  assert means.min() in (50, 51) and means.max() in (149, 150)
  spread = np.histogram(means[:, 0], bins=4, range=(50, 150))[0]
  assert abs(spread - count / 4).max() < 45  # four standard deviations


SHAPE = (4, 32, 48, 3)
BLOCK = 8


def windows_of(config, count):
  """`count` windows that `make_window` chooses for images of SHAPE."""
  choose = make_window(config, BLOCK)
  image = np.zeros(SHAPE[1:], np.uint8)
  return np.stack([
      choose(np.random.default_rng(seed), image, image[..., 0])["window"]
      for seed in range(count)
  ])


def test_windows_lie_on_the_block_grid_and_reach_every_corner():
  config = augmentation(height=32, width=48, flip=True)
  config.update(crop_height=16, crop_width=32)
  windows = windows_of(config, 200)
  assert (windows[:, :2] % BLOCK == 0).all()
  assert {tuple(window[:2]) for window in windows.tolist()} == {
      (top, left) for top in (0, 8, 16) for left in (0, 8, 16)
  }
  assert 60 < windows[:, 2].sum() < 140
  config.flip = False
  assert not windows_of(config, 50)[:, 2].any()


def test_windows_show_images_and_labels_alike():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, SHAPE, np.uint8)
  windows = np.array([[0, 0, 0], [8, 16, 1], [16, 8, 0], [16, 16, 1]])
  parts = np.asarray(cut(images, windows, 16, 32))
  for part, image, (top, left, mirrored) in zip(
      parts, images, windows, strict=True
  ):
    expected = image[top : top + 16, left : left + 32]
    np.testing.assert_array_equal(
        part, expected[:, ::-1] if mirrored else expected
    )
  labels = cut(images[..., 0], windows, 16, 32)
  np.testing.assert_array_equal(labels, parts[..., 0])


@pytest.mark.parametrize("scheme", [
    name for name in SCHEMES if name not in ("plain", "etc_madono")
])
def test_a_mirrored_ciphertext_is_one_of_the_mirrored_image(scheme):
  """By what any key leaves: the form, or else which values lie together."""
  rng = np.random.default_rng(1)
  image = rng.integers(0, 256, SHAPE[1:], np.uint8)
  cipher = np.asarray(encrypt(scheme, key_from_seed(3), image, BLOCK))
  mirrored = cipher[:, ::-1]
  assert known_ops(scheme)
  try:
    form = [np.asarray(canonical(scheme, x[None], BLOCK))
            for x in (mirrored, image[:, ::-1])]
  except UserError:  # of image scope
    form = [up_to_order(scheme, x) for x in (mirrored, image[:, ::-1])]
  np.testing.assert_array_equal(*form)


def up_to_order(scheme, image):
  """What no key of image scope changes: rows of values, up to their order.

  Halves of bytes and folded signs where the scheme has these; where it moves
  blocks, what is in each, and no more.
  """
  ops = ops_of(get_scheme(scheme))
  top = 255
  if any(isinstance(op, NibbleSplit) for op in ops):
    image, top = np.asarray(split_halves(image)), 15
  if any(isinstance(op, NegativePositive) for op in ops):
    image = np.minimum(image, top - image)
  blocks = np.asarray(to_blocks(image, BLOCK))  # [M*M, N, C]
  rows = blocks.transpose(0, 2, 1).reshape(-1, blocks.shape[1])  # [L, N]
  if any(isinstance(op, BlockScramble) for op in ops):
    rows = np.sort(rows, 0)
    return rows[:, np.lexsort(rows)]
  return rows[np.lexsort(rows.T)]


def test_nothing_is_claimed_of_an_op_that_is_not_known():
  class Mine:
    kind = 100

  assert not known_ops(Scheme("mine", (Mine(),), "", ""))
