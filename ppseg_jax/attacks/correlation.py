"""Opens a shuffle shared by all blocks of an image, from its ciphertext alone.

Assumes one permutation of the positions for all blocks of an image (scope
`image`), whatever its unit, with or without negative-positive; nothing else:
no key, no other image, no second ciphertext. Larger images make it better,
since each block is one more sample of the differences between positions.

Source: this project; the first look at position correlations of shuffled
blocks known to us is Chuman and Kiya, Information 14(6):311 (2023).
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from ppseg_jax.attacks import seriation
from ppseg_jax.attacks.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    join,
    refuse,
    scrambles,
    split,
    split_halves,
)
from ppseg_jax.encryption import (
    NegativePositive,
    NibbleSplit,
    PixelShuffle,
    ops_of,
)

_NAME = "correlation"
_NEAREST = 8  # positions whose distance tells an upper half byte from a lower


def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """Reconstructs every ciphertext on its own; the seed plays no part.

  Where the scheme moves blocks too they stay where the ciphertext has them, and
  the symmetry of the block is not resolved.

  Notes: `stress`, how badly the found layout explains the differences.

  Raises UserError for a scheme without a pixel shuffle.
  """
  del seed
  shuffles = ops_of(knowledge.scheme, PixelShuffle)
  if not shuffles:
    raise refuse(_NAME, knowledge.scheme, "it shuffles no values in a block.")
  found, misfit = [], []
  for blocks in split(knowledge.ciphertexts, knowledge.block):
    blocks, stress = open_blocks(
        blocks, knowledge.scheme, shuffles[0].unit, budget.rounds
    )
    if not scrambles(knowledge.scheme):
      blocks = place_symmetry(blocks, knowledge)
    found.append(blocks)
    misfit.append(stress)
  images = join(np.stack(found), knowledge.grid)
  if ops_of(knowledge.scheme, NegativePositive):
    images = np.stack(
        [as_usual([x, 255 - x], knowledge.others) for x in images]
    )
  if knowledge.others is not None and shuffles[0].unit == "value":
    images = np.stack([name_channels(x, knowledge.others) for x in images])
  return Outcome(images, {"stress": float(np.mean(misfit))})


def open_blocks(
    blocks: np.ndarray, scheme, unit: str, rounds: int
) -> tuple[np.ndarray, float]:
  """Undoes the shuffle of one image's blocks, up to a symmetry of the block.

  Args:
    blocks: uint8 [N, M, M, C].
    scheme: for its negative-positive bits, which are folded or aligned.
    unit: of the pixel shuffle.
    rounds: of `seriation.refine`.

  Returns:
    (uint8 [N, M, M, C], stress).
  """
  n, side, _, channels = blocks.shape
  if ops_of(scheme, NibbleSplit):
    rows = _upper_halves(blocks, scheme)
  else:
    rows = _upright(blocks.reshape(n, -1).T, scheme, 255)  # [M*M*C, N]
  if unit == "pixel":
    by_pixel = rows.reshape(side * side, channels * n)
    slot, stress = seriation.lay_out(
        seriation.distances(by_pixel), side, 1, rounds
    )
    place = slot[:, None] * channels + np.arange(channels)
    slot = place.ravel()
  else:
    known = np.arange(len(rows)) % channels if unit == "channel" else None
    slot, stress = seriation.lay_out(
        seriation.distances(rows), side, channels, rounds, known, rows
    )
  opened = np.empty_like(rows)
  opened[slot] = rows
  return opened.T.reshape(blocks.shape), stress


def _upper_halves(blocks: np.ndarray, scheme) -> np.ndarray:
  """Of shuffled half bytes those that were the upper ones, [M*M*C, N].

  Lower halves are near to noise, so that their nearest neighbours are far.
  """
  halves = split_halves(blocks).reshape(len(blocks), -1).T
  halves = _upright(halves, scheme, 15)
  nearest = np.sort(seriation.distances(halves), 1)[:, 1:_NEAREST + 1]
  return 17 * halves[np.argsort(nearest.mean(1))[:len(halves) // 2]]


def _upright(rows: np.ndarray, scheme, top: int) -> np.ndarray:
  """Rows [L, N] with what negative-positive did to them undone or folded.

  Bits by value of every block can't be told: v or top - v is folded, which
  loses which of the two it was. Bits shared by all blocks turn whole rows,
  which then correlate negatively with the others. A bit a block changes no
  difference between positions.
  """
  for op in ops_of(scheme, NegativePositive):
    if op.scope == "block" and op.unit != "block":
      rows = np.minimum(rows, top - rows)
    elif op.scope == "image":
      centred = rows - rows.mean(1, keepdims=True)
      lead = np.linalg.eigh(centred @ centred.T)[1][:, -1]
      turned = lead < 0
      rows = np.where(turned[:, None], top - rows, rows).astype(np.uint8)
  return rows


def symmetries(blocks: np.ndarray):
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


def _signed(scheme) -> bool:
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


def as_usual(ways: list[np.ndarray], others: np.ndarray | None) -> np.ndarray:
  """Of images, uint8 [H, W, 3], the one bright where other images are.

  The first where no others are given.
  """
  if others is None:
    return ways[0]
  usual = others.mean((0, 3))
  usual = usual - usual.mean()
  return max(ways, key=lambda image: float((image.mean(2) * usual).sum()))


def name_channels(image: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Orders the channels so that they covary most like those of other images.

  The image is uint8 [..., 3], in whatever shape: places are not looked at.
  """
  def covariance(pixels: np.ndarray) -> np.ndarray:
    pixels = pixels.reshape(-1, 3).astype(np.float64)
    chroma = pixels - pixels.mean(1, keepdims=True)
    return np.cov(chroma.T) + np.outer(chroma.mean(0), chroma.mean(0))

  like = np.mean([covariance(other) for other in others[:16]], 0)
  own = covariance(image)
  orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
  order = min(orders, key=lambda o: ((own[np.ix_(o, o)] - like) ** 2).sum())
  return image[..., order]
