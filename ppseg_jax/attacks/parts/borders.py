"""Blocks turned and negated until they fit their neighbours."""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from ppseg_jax.attacks.parts.knowledge import Knowledge
from ppseg_jax.encryption import NegativePositive, Scheme, ops_of


def symmetries(blocks: np.ndarray) -> Iterator[np.ndarray]:
  """The 8 ways to turn and mirror blocks [..., M, M, C]."""
  for base in (blocks, blocks.swapaxes(-3, -2)):
    for flips in ((), (-3,), (-2,), (-3, -2)):
      yield np.flip(base, flips) if flips else base


def border(blocks: np.ndarray, grid: tuple[int, int]) -> float:
  """Mean absolute step across the borders of neighbouring blocks."""
  cells = blocks.reshape(*grid, *blocks.shape[1:]).astype(np.int16)
  down = abs(cells[1:, :, 0] - cells[:-1, :, -1])
  across = abs(cells[:, 1:, :, 0] - cells[:, :-1, :, -1])
  return float((down.sum() + across.sum()) / (down.size + across.size))


def place_symmetry(blocks: np.ndarray, knowledge: Knowledge) -> np.ndarray:
  """The symmetry under which neighbouring blocks fit best, signs included."""
  ways = list(symmetries(blocks))
  if _signed(knowledge.scheme):
    ways = [set_signs(way, knowledge.grid) for way in ways]
  return min(ways, key=lambda turned: border(turned, knowledge.grid))


def _signed(scheme: Scheme) -> bool:
  return any(op.unit == "block" and op.scope == "block"
             for op in ops_of(scheme, NegativePositive))


def set_signs(blocks: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """Negates blocks [N, M, M, C] until neighbours fit, surest pairs first.

  The sign of the whole stays open.
  """
  number = np.arange(len(blocks)).reshape(grid)
  x = blocks.astype(np.int16)

  def sure(one, two, end, start):  # > 0 where the two have different signs
    a, b = end(x[one]), start(x[two])
    return abs(a - b).mean((1, 2)) - abs(255 - a - b).mean((1, 2))

  one = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
  two = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
  across = number[:, :-1].size
  differ = np.concatenate([
      sure(one[:across], two[:across], lambda v: v[:, :, -1],
           lambda v: v[:, :, 0]),
      sure(one[across:], two[across:], lambda v: v[:, -1], lambda v: v[:, 0]),
  ])
  size = (len(blocks),) * 2
  tree = minimum_spanning_tree(
      coo_array((1e3 - abs(differ), (one, two)), size).tocsr()
  )
  other = coo_array((differ > 0, (one, two)), size).tocsr()
  order, parent = breadth_first_order(tree, 0, directed=False)
  negative = np.zeros(len(blocks), bool)
  for k in order[1:]:
    i, j = sorted((int(k), int(parent[k])))
    negative[k] = negative[parent[k]] ^ bool(other[i, j])
  return np.where(negative[:, None, None, None], 255 - blocks, blocks)
