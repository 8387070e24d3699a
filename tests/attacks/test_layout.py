"""Blocks without places are put where other scenes have their like."""

from ppseg_jax.attacks import ATTACKS, Budget
from ppseg_jax.attacks.parts.scores import psnr
from tests.attacks.helpers import SMALL, hidden, know

attack = ATTACKS["layout"]


def test_layout_places_every_block_once_and_better_than_the_ciphertext(
    scene, others
):
  cipher = hidden("scramble", scene, block=16)
  known = know("scramble", cipher, block=16, others=others)
  found = attack(known, 0, Budget(steps=60, rounds=3, tries=8))
  assert sorted(found.images.ravel()) == sorted(scene.ravel())
  assert psnr(scene, found.images[0]) > psnr(scene, cipher) + 1


def test_layout_leaves_blocks_in_the_band_they_are_in(scene, others):
  scheme = "blockwise_bands2"
  cipher = hidden(scheme, scene, block=16)
  known = know(scheme, cipher, block=16, others=others)
  found = attack(known, 0, SMALL).images[0].astype(float)
  for top in range(0, 96, 32):
    band = slice(top, top + 32)
    assert abs(found[band].mean() - scene[band].mean()) < 3
