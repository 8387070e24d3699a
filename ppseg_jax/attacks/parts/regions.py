"""Where block scrambling may have put a block."""

import math

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ppseg_jax.attacks.parts.knowledge import Knowledge
from ppseg_jax.encryption import BlockScramble, ops_of

NEVER = -1e4  # log p of a block in another region than its own


def allowed_cells(knowledge: Knowledge) -> np.ndarray:
  """Which cells a block may lie in, bool [N blocks, N cells]: of its region.

  Where scramblings of different regions follow one another, of all regions that
  they join.
  """
  blocks = np.arange(math.prod(knowledge.grid))
  joined = coo_array((len(blocks),) * 2, dtype=bool)
  for op in ops_of(knowledge.scheme, BlockScramble):
    regions = op.to_regions(blocks[None, :, None], knowledge.grid)[..., 0, 0]
    first = np.broadcast_to(regions[0], regions.shape)
    joined += coo_array(
        (np.ones(regions.size, bool), (first.ravel(), regions.ravel())),
        joined.shape,
    )
  _, number = connected_components(joined, directed=False)
  return number[:, None] == number
