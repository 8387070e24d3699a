"""The network is told the canonical form and nothing else."""

import numpy as np

from ppseg_jax.attacks import ATTACKS
from tests.attacks.helpers import SMALL, hidden, know


def test_networks_read_the_canonical_form_alone(scene, others):
  ciphers = [hidden("blockwise", scene, seed) for seed in (0, 1)]
  found = ATTACKS["likeliest"](
      know("blockwise", *ciphers, others=others), 0, SMALL
  )
  np.testing.assert_array_equal(*found.images)
