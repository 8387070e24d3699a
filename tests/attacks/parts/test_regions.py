"""Where a block may come from is what scramblings join."""

import numpy as np

from ppseg_jax.attacks.parts import regions
from ppseg_jax.encryption import BlockScramble, Scheme
from tests.attacks.helpers import know
from tests.helpers import photo


def test_blocks_may_lie_in_every_region_that_scramblings_join():
  twice = Scheme("twice", (BlockScramble(height=2), BlockScramble()), "", "")
  bands = Scheme("bands", (BlockScramble(height=2),), "", "")
  image = photo(32, 32)
  assert regions.allowed_cells(know(twice, image)).all()
  allowed = regions.allowed_cells(know(bands, image))
  np.testing.assert_array_equal(allowed, np.kron(np.eye(2), np.ones((8, 8))))
