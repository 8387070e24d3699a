"""Values ranked along a smooth surface show more than the means do."""

import numpy as np
import pytest

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts.ranks import by_rank
from ppseg_jax.attacks.parts.scores import edge, ssim
from ppseg_jax.encryption.blocks import split
from tests.attacks.helpers import SMALL, hidden, know
from tests.helpers import photo

attack = ATTACKS["rank"]


@pytest.mark.parametrize("scheme", [
    "blockwise", "blockwise_pixel", "blockwise_value",
])
def test_ranks_show_edges_that_the_mosaic_has_not(scheme, scene):
  known = know(scheme, hidden(scheme, scene))
  mosaic, ranked = (
      ATTACKS[name](known, 0, SMALL).images for name in ("mosaic", "rank")
  )
  assert edge(scene, ranked[0]) > edge(scene, mosaic[0]) + 0.15
  assert ssim(scene, ranked[0]) > ssim(scene, mosaic[0])


def test_the_rank_attack_reads_the_canonical_form_alone():
  image = photo(48, 64)
  ciphers = [hidden("blockwise", image, seed) for seed in (0, 1)]
  one, two = attack(know("blockwise", *ciphers), 0, SMALL).images
  np.testing.assert_array_equal(one, two)
  alone = attack(know("blockwise", ciphers[0]), 0, SMALL).images[0]
  np.testing.assert_array_equal(one, alone)
  other = attack(know("blockwise", ciphers[0]), 1, SMALL).images[0]
  assert (alone != other).any()


def test_ranks_put_every_value_back_where_the_picture_has_its_own():
  blocks = split(photo(16, 24)[None], 8).reshape(1, 6, 64, 3)
  laid = by_rank(np.sort(blocks, 2), blocks)
  np.testing.assert_array_equal(laid, blocks)
