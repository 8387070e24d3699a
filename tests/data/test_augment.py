"""Augmentation: labels move with the image, by the generator alone."""

import numpy as np
import pytest

from ppseg_jax.data.augment import cut, known_ops, make_augment, make_window
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
from ppseg_jax.encryption.ops import split as split_halves
from ppseg_jax.errors import UserError
from tests.data.helpers import Numbers, augmentation


def test_augmentation_keeps_size_and_moves_labels_with_the_image():
  config = augmentation()
  config.photometric = 0.0
  augment = make_augment(config)
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
