"""A U-Net draws the picture from what is left of each block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.attacks import ATTACKS, Budget
from ppseg_jax.attacks.unet import UNet, loss
from ppseg_jax.errors import UserError
from tests.attacks.helpers import hidden, know
from tests.helpers import photo


def test_the_unet_reads_what_a_level_leaves_and_nothing_else():
  scheme = "blockwise_value_q3"
  image, *others = (photo(12, 18, seed) for seed in range(4))
  ciphers = [hidden(scheme, image, seed, block=3) for seed in (0, 1)]
  known = know(scheme, *ciphers, block=3, others=np.stack(others))
  found = ATTACKS["unet"](known, 0, Budget(unet_steps=2))
  assert found.images.shape == (2, 12, 18, 3) and found.notes["steps"] == 2
  np.testing.assert_array_equal(*found.images)


@pytest.mark.parametrize("block", [2, 5, 6, 16, 32])
def test_the_unet_draws_pixels_of_blocks_of_any_side(block):
  net = UNet(block)
  shapes = (jax.ShapeDtypeStruct((1, 3 * block, 4 * block, 1), jnp.float32),
            jax.ShapeDtypeStruct((1, 3, 4, 7), jnp.float32))
  key = jax.random.key(0)
  drawn, _ = jax.eval_shape(net.init_with_output, key, *shapes)
  assert drawn.shape == (1, 3 * block, 4 * block, 3)


def test_what_the_unet_learns_by_is_least_for_the_picture_itself():
  picture = np.stack([photo(16, 16, 1)]) / np.float32(127.5) - 1
  assert abs(loss(picture, picture)) < 1e-4
  grey = picture.mean(3, keepdims=True)
  flat = np.full_like(picture, picture.mean())
  assert 0.01 < loss(grey, picture) < loss(flat, picture)


def test_the_unet_refuses_what_it_cannot_learn_from():
  image = photo(8, 8)
  for scheme, block, why in (("blockwise_hidden", 4, "not at their places"),
                             ("blockwise", 1, "at least 2 pixels"),
                             ("blockwise", 4, "two other images")):
    known = know(scheme, image, block=block, others=image[None])
    with pytest.raises(UserError, match=why):
      ATTACKS["unet"](known, 0, Budget())
