"""What careless clients send: views, forms, and releases of both."""

import numpy as np
import pytest

from ppseg_jax.attacks import ATTACKS, several
from ppseg_jax.configs import attacks as config_file
from ppseg_jax.encryption import get_scheme
from ppseg_jax.errors import UserError
from tests.helpers import photo

PLAIN = get_scheme("plain")
INDEX = np.array([0, 5])


def settings(**views):
  config = config_file.get_config()
  config.block = 8
  config.views.update(views)
  return config


def test_views_are_windows_at_different_places_each_released_on_its_own():
  images = np.stack([photo(32, 48, i) for i in range(2)])
  config = settings(count=4)
  told = several.told(config, ATTACKS["views"], PLAIN, images, INDEX)
  assert told.keys() == {"views"}  # where they lie is not told
  views, corners = several.make_views(config, PLAIN, images, INDEX)
  for image, shown, places in zip(images, views, corners, strict=True):
    assert len({tuple(place) for place in places}) == 3
    for view, (y, x) in zip(shown, places, strict=True):
      np.testing.assert_array_equal(view, image[y : y + 24, x : x + 40])
  config.private.update(pixels=1, epsilon=5.0)
  noisy, same = several.make_views(config, PLAIN, images, INDEX)
  np.testing.assert_array_equal(same, corners)
  assert (noisy != views).any((2, 3, 4)).all()
  assert several.noise_of(config)[1] == config.private.groups
  config.private.bits = 1
  noisy, _ = several.make_views(config, PLAIN, images, INDEX)
  assert set(np.unique(noisy)) == {64, 192}
  assert several.noise_of(config)[1] == 0


def test_crops_for_containment_are_shifted_along_one_side_and_that_is_told():
  images = np.stack([photo(32, 48, i) for i in range(2)])
  corners = several.told(
      settings(count=5), ATTACKS["containment"], PLAIN, images, INDEX
  )["corners"]
  assert ((corners == 0).sum(2) == 1).all() and (corners % 8 <= 7).all()
  assert (corners[:, ::2, 0] == 0).all() and (corners[:, 1::2, 1] == 0).all()


@pytest.mark.parametrize("attack, count", [("views", 83), ("containment", 16)])
def test_more_views_than_there_are_are_refused(attack, count):
  config = settings(count=count)
  with pytest.raises(UserError, match=f"views.count={count}"):
    several.check(config, ATTACKS[attack], PLAIN)
  config.views.count -= 1
  several.check(config, ATTACKS[attack], PLAIN)
