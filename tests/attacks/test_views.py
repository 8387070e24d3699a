"""Several ciphertexts of one picture: what they tell together."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts import joint
from ppseg_jax.attacks.parts.scores import edge, ssim
from ppseg_jax.encryption import key_from_seed, private
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.errors import UserError
from tests.attacks.helpers import BLOCK, SMALL, know
from tests.helpers import photo

CORNERS = np.array([(0, 3), (5, 1), (4, 4), (7, 6), (2, 8)])


def mixed(image, seed):
  """As `blockwise` leaves it: each block's values in an order by chance."""
  blocks = split(image[None], BLOCK)
  flat = blocks.reshape(*blocks.shape[:2], BLOCK**2, 3)
  order = np.random.default_rng(seed).random(flat.shape).argsort(2)
  grid = [side // BLOCK for side in image.shape[:2]]
  return join(np.take_along_axis(flat, order, 2).reshape(blocks.shape), grid)[0]


def windows(image, corners=CORNERS):
  height, width = (side - BLOCK for side in image.shape[:2])
  return [image[top : top + height, left : left + width]
          for top, left in corners]


def views_of(image, scheme="blockwise", **fields):
  views = [mixed(window, 1 + i) for i, window in enumerate(windows(image))]
  return know(scheme, mixed(image, 0), views=np.stack(views)[None], **fields)


def scores(image, known):
  found = ATTACKS["views"](known, 0, SMALL).images[0]
  return np.array([ssim(image, found), edge(image, found)])


@pytest.mark.parametrize("scheme", [
    "blockwise", "blockwise_q1", "blockwise_value",
])
def test_views_of_a_scene_show_more_than_one(scheme, scene):
  scene = scene[:48, :64]
  known = views_of(scene, scheme)
  none = dataclasses.replace(known, views=known.views[:, :0])
  assert (scores(scene, known) > scores(scene, none) + 0.05).all()


def test_views_are_placed_by_what_they_tell_alone(scene):
  known = views_of(scene)
  first, *views = (joint.read(known, x) for x in
                   (known.ciphertexts[0], *known.views[0]))
  placed = []
  for _ in range(2):
    picture = joint.solve([first, *placed], scene.shape[:2], 6, 0,
                          np.random.default_rng(0))
    placed = joint.place(views, picture)
  assert [view.corner for view in placed] == [tuple(x) for x in CORNERS]


def test_a_picture_that_is_made_to_agree_has_what_was_told():
  image, guess = photo(48, 64, 1), photo(48, 64, 2).astype(np.float32)
  for scheme in ("blockwise", "blockwise_q4", "blockwise_m2q4"):
    view = joint.read(know(scheme, image), image)
    agreed = guess.copy()
    view.agree(agreed, 1)
    told = view.groups(np.sort(view.blocks(agreed), 1))
    if scheme != "blockwise":  # moved groups may overlap, and change places
      assert abs(told - view.told).mean() < 2
    else:
      np.testing.assert_allclose(told, view.told, atol=1e-3)


def test_noise_holds_for_several_views(scene):
  budget = private.Budget(16, epsilon=Fraction(2))

  def noisy(image, number):
    image = np.ascontiguousarray(image)
    return private.release(image, key_from_seed(number), budget, BLOCK)

  views = [noisy(x, 1 + i) for i, x in enumerate(windows(scene))]
  noise = budget.deviation(3) / BLOCK**2
  known = know("blockwise", noisy(scene, 0), views=np.stack(views)[None],
               corners=CORNERS[None], noise=noise, groups=1)
  open_ = dataclasses.replace(views_of(scene, "blockwise_q1"),
                              corners=CORNERS[None])
  assert (scores(scene, known) < scores(scene, open_) - 0.1).all()


@pytest.mark.parametrize("scheme, said", [
    ("independent", "one shuffle"), ("image_pixel", "another for each"),
    ("blockwise_hidden", "see 'containment'"),
    ("blockwise_negative", "unchanged values"),
])
def test_schemes_that_it_does_not_open_are_refused(scheme, said):
  image = photo(48, 64)
  with pytest.raises(UserError, match=said):
    ATTACKS["views"](know(scheme, image, views=image[None, None]), 0, SMALL)
