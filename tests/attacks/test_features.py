"""Folding values shows contours that negative-positive leaves in place."""

import numpy as np

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts.scores import edge
from ppseg_jax.encryption import NegativePositive, Scheme
from tests.attacks.helpers import SMALL, hidden, know
from tests.helpers import photo

attack = ATTACKS["features"]


def test_folding_shows_contours_whatever_the_key(scene):
  ciphers = [hidden("negative_value", scene, s) for s in (0, 1)]
  found = attack(know("negative_value", *ciphers), 0, SMALL)
  np.testing.assert_array_equal(*found.images)
  assert edge(scene, found.images[0]) > edge(scene, ciphers[0]) + 0.3


def test_folding_needs_no_name_in_the_library():
  mine = Scheme("mine", (NegativePositive(unit="value", scope="block"),), "",
                "")
  image = photo(32, 32)
  found = attack(know(mine, hidden(mine, image)), 0, SMALL)
  np.testing.assert_array_equal(
      found.images[0], 2 * np.minimum(image, 255 - image)
  )
