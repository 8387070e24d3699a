"""A known pair opens what its key encrypted, and nothing else."""

import numpy as np
import pytest

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts.scores import ssim
from tests.attacks.helpers import SMALL, hidden, know, street

attack = ATTACKS["known_plaintext"]


@pytest.mark.parametrize("scheme", [
    "independent", "image_pixel", "image_channel", "image_negative_value",
    "image_negative_block", "scramble_image", "blockwise",
    "blockwise_scrambled", "negative_value", "le", "ele", "pe", "etc",
    "aso2024", "horio2024",
])
def test_a_known_pair_opens_itself_exactly(scheme, scene):
  scene = scene[:48, :64]
  cipher = hidden(scheme, scene)
  found = attack(
      know(scheme, cipher, pair=(scene, cipher)), 0, SMALL
  )
  np.testing.assert_array_equal(found.images[0], scene)


def test_a_known_pair_opens_other_images_under_the_same_key_alone(scene):
  other = street(3, 6)[0]
  same, fresh = (hidden("independent", other, seed) for seed in (0, 1))
  pair = (scene, hidden("independent", scene, 0))
  found = attack(
      know("independent", same, fresh, pair=pair), 0, SMALL
  ).images
  np.testing.assert_array_equal(found[0], other)
  assert ssim(found[1], other) < 0.8
