"""Blocks that keep their borders are put back by them."""

import numpy as np
import pytest

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts.scores import psnr, ssim
from ppseg_jax.data.streets.source import render
from ppseg_jax.encryption import BlockScramble, RotateFlip, Scheme
from ppseg_jax.encryption.blocks import split
from ppseg_jax.errors import UserError
from tests.attacks.helpers import SMALL, hidden, know
from tests.helpers import photo

attack = ATTACKS["jigsaw"]


def test_jigsaw_finds_neighbours_far_oftener_than_chance():
  scene = render(3, 5, 192, 256)[0]
  blocks = split(scene[None], 16)[0]
  cipher = hidden("scramble", scene, block=16)
  found = attack(know("scramble", cipher, block=16), 0, SMALL)
  laid = split(found.images, 16)[0]
  number = {block.tobytes(): k for k, block in enumerate(blocks)}
  order = np.array([number[block.tobytes()] for block in laid]).reshape(12, 16)
  right = (order[:, 1:] == order[:, :-1] + 1).mean()
  assert right > 0.1  # of a random order: 0.005


@pytest.mark.parametrize("scheme, light", [
    ("scramble", 0.8), ("etc", 0.8), ("scramble", 0.3), ("scramble", None),
])
def test_jigsaw_opens_smooth_pictures_whatever_was_done_to_whole_blocks(
    scheme, light, smooth
):
  others = (light * smooth[None]).astype(np.uint8) if light else None
  found = attack(
      know(scheme, hidden(scheme, smooth), others=others), 0, SMALL
  )
  assert ssim(smooth, found.images[0]) > 0.9


@pytest.mark.parametrize("ops", [
    (BlockScramble(fraction=0.25),),
    (BlockScramble(fraction=0.9),),
    (BlockScramble(height=2, fraction=0.25),),
    (BlockScramble(fraction=0.25), RotateFlip(scope="block")),
])
def test_jigsaw_puts_the_share_of_blocks_back_that_moved(ops, smooth):
  part = Scheme("part", ops, "", "")
  cipher = hidden(part, smooth)
  assert ssim(smooth, cipher) < 0.8
  found = attack(
      know(part, cipher, others=smooth[None] // 2), 0, SMALL
  )
  assert ssim(smooth, found.images[0]) > 0.95


@pytest.mark.parametrize("scheme", [
    Scheme("flat", (BlockScramble(),), "", ""),
    Scheme("rows", (BlockScramble(height=1),), "", ""),
    Scheme("most", (BlockScramble(fraction=0.9),), "", ""),
])
@pytest.mark.parametrize("image", [
    np.full((16, 32, 3), 9, np.uint8), photo(16, 16), photo(8, 64),
])
def test_jigsaw_gives_every_block_back_of_small_and_flat_pictures(
    scheme, image
):
  found = attack(know(scheme, hidden(scheme, image)), 0, SMALL)
  assert sorted(found.images.ravel()) == sorted(image.ravel())


def test_jigsaw_refuses_what_has_no_borders_to_compare():
  for image, block in ((photo(8, 16), 8), (photo(8, 8), 1)):
    cipher = hidden("scramble", image, block=block)
    with pytest.raises(UserError, match="three blocks or more"):
      attack(know("scramble", cipher, block=block), 0, SMALL)


def test_jigsaw_goes_on_where_correlation_opened_the_shuffle(scene, others):
  known = know("aso2024", hidden("aso2024", scene), others=others)
  start, found = (
      psnr(scene, ATTACKS[name](known, 0, SMALL).images[0])
      for name in ("correlation", "jigsaw")
  )
  assert found > start + 0.5
