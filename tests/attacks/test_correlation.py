"""One permutation of all blocks opens; one of each block does not."""

import pytest

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts.scores import edge, ssim
from ppseg_jax.encryption import PixelShuffle, Scheme
from tests.attacks.helpers import SMALL, hidden, know

attack = ATTACKS["correlation"]
BLOCK = 4  # few positions to lay out, and many blocks to do it by


@pytest.fixture
def scene(scene):
  return scene[:64, :96]


@pytest.fixture
def others(others):
  return others[:, :64, :96]


@pytest.mark.parametrize("unit", ["value", "channel", "pixel"])
def test_correlation_opens_a_shuffle_shared_by_all_blocks(unit, scene):
  scheme = Scheme("x", (PixelShuffle(unit=unit, scope="image"),), "", "")
  cipher = hidden(scheme, scene, block=BLOCK)
  found = attack(know(scheme, cipher, block=BLOCK), 0, SMALL)
  assert ssim(scene, cipher) < 0.5
  assert ssim(scene, found.images[0]) > 0.95


def test_correlation_opens_it_under_a_random_sign_of_each_block(
    scene, others
):
  scheme = "image_negative_block"
  cipher = hidden(scheme, scene, block=BLOCK)
  assert edge(scene, cipher) < 0.3
  found = attack(know(scheme, cipher, block=BLOCK, others=others), 0, SMALL)
  assert edge(scene, found.images[0]) > 0.9


@pytest.mark.parametrize("scheme", ["blockwise", "blockwise_value"])
def test_correlation_gains_nothing_on_a_permutation_of_each_block(
    scheme, scene
):
  cipher = hidden(scheme, scene, block=BLOCK)
  found = attack(know(scheme, cipher, block=BLOCK), 0, SMALL)
  assert abs(ssim(scene, found.images[0]) - ssim(scene, cipher)) < 0.1
  assert edge(scene, found.images[0]) < edge(scene, cipher) + 0.1
