"""Augmentation: labels move with the image, by the generator alone."""

import numpy as np

from ppseg_jax.data.augment import make_augment
from ppseg_jax.data.labels import VOID
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
    x, y = augment(np.random.default_rng(seed), image, labels)
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
      augment(np.random.default_rng(seed), image, labels) for seed in (1, 1, 2)
  )
  assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
  assert not np.array_equal(one[0], other[0])
