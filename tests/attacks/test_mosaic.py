"""The mosaic is what a shuffle inside blocks cannot hide."""

import numpy as np

from ppseg_jax.attacks import ATTACKS
from tests.attacks.helpers import SMALL, hidden, know


def test_the_mosaic_is_the_block_means_under_any_key(scene):
  plain, one = (
      ATTACKS["mosaic"](know("blockwise", x), 0, SMALL).images
      for x in (scene, hidden("blockwise", scene))
  )
  np.testing.assert_array_equal(plain, one)
