"""A hidden layout and two exact crops: the places come back."""

import numpy as np
import pytest

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts.scores import edge, ssim
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.errors import UserError
from tests.attacks.helpers import BLOCK, SMALL, know
from tests.helpers import photo

CROPS = np.array([(0, 3), (5, 0)])


def hidden(image, seed):
  """As `blockwise_hidden` leaves it: blocks, and values in them, by chance."""
  rng = np.random.default_rng(seed)
  blocks = rng.permuted(split(image[None], BLOCK).reshape(
      1, -1, BLOCK**2, 3), axis=2)
  blocks = rng.permutation(blocks, axis=1)
  grid = [side // BLOCK for side in image.shape[:2]]
  return join(blocks.reshape(1, -1, BLOCK, BLOCK, 3), grid)[0]


def known(image, crops=CROPS):
  height, width = (side - BLOCK for side in image.shape[:2])
  views = [hidden(image[y : y + height, x : x + width], 1 + i)
           for i, (y, x) in enumerate(crops)]
  return know("blockwise_hidden", hidden(image, 0),
              views=np.stack(views)[None], corners=crops[None])


def test_two_crops_give_the_places_of_all_blocks():
  image = photo(48, 64)
  found = ATTACKS["containment"](known(image), 0, SMALL).images[0]
  means = [split(x[None], BLOCK).mean((2, 3)) for x in (image, found)]
  np.testing.assert_allclose(*means, atol=8)
  one = ATTACKS["containment"](known(image, CROPS[:1]), 0, SMALL).images[0]
  assert ssim(image, found) > ssim(image, one) + 0.1
  assert edge(image, found) > edge(image, one)


@pytest.mark.parametrize("scheme, said", [
    ("blockwise", "moved over the whole image"),
    ("blockwise_bands2", "moved over the whole image"),
    ("blockwise_q4_hidden", "share none of the numbers"),
    ("scramble_image", "see 'jigsaw'"),
])
def test_schemes_that_it_does_not_open_are_refused(scheme, said):
  image = photo(48, 64)
  with pytest.raises(UserError, match=said):
    ATTACKS["containment"](know(
        scheme, image, views=image[None, None], corners=CROPS[None, :1]
    ), 0, SMALL)
