"""A hidden layout, put together by what exact crops of one picture share.

Assumes further pictures that are the first without its first columns, or
without its first rows, their blocks moved too, and that it is known how many
are missing (there are few ways, and all may be tried). Each block of such a
crop lies over two neighbours of the picture's: all its values are among theirs,
and with each it shares as many at least as pixels. Two blocks for which there
is such a third are likely neighbours, and the picture is grown from the surest
pair. Values are then laid out inside the blocks by their ranks, see `rank`.
Needs no training, no key and no other image. Source: this project.
"""

import numpy as np

from ppseg_jax.attacks.parts import joint
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    mixes_channels,
    refuse,
)
from ppseg_jax.encryption import BlockScramble, PixelShuffle, ops_of
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.encryption.levels import Level

_CANDIDATES = 24  # to lie under a block of a crop
_WORST = 0.125  # of a block's values, above which all pairs fit equally badly
_SIDES = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, below, left, above


@declare(needs=("views", "corners"))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """A smooth picture of the ciphertext's blocks, put in their places.

  Raises UserError for a scheme that moves no blocks over the whole image, or
  that changes values; for levels and noise, whose values no two blocks share.
  """
  _check(knowledge)
  images = []
  for number, (first, views, corners) in enumerate(zip(
      knowledge.ciphertexts, knowledge.views, knowledge.corners, strict=True
  )):
    own = _counts(knowledge, first)
    costs = np.zeros((2, len(own), len(own)), np.float32)  # right of, below
    for view, (down, across) in zip(views, corners.tolist(), strict=True):
      if bool(down) != bool(across):
        share = (down or across) % knowledge.block / knowledge.block
        theirs = _counts(knowledge, view)
        costs[int(down > 0)] += _neighbours(own, theirs, share)
    table = _grow(costs, knowledge.grid)
    blocks = split(first[None], knowledge.block)[:, table.ravel()]
    laid = joint.read(knowledge, join(blocks, knowledge.grid)[0])
    images.append(joint.solve(
        [laid], first.shape[:2], budget.rounds, 0.0,
        np.random.default_rng([seed, number]),
    ))
  images = np.broadcast_to(np.stack(images), knowledge.ciphertexts.shape)
  return Outcome(
      np.clip(np.rint(images), 0, 255).astype(np.uint8),
      {"views": 1 + knowledge.views.shape[1]},
  )


def _counts(knowledge: Knowledge, cipher: np.ndarray) -> np.ndarray:
  """How often each value is in each block, int16 [N, channels * 256]."""
  values = split(cipher[None], knowledge.block)[0].astype(int)
  values = values.reshape(len(values), -1, values.shape[-1])
  if mixes_channels(knowledge.scheme):
    values = values.reshape(len(values), -1, 1)
  channels = values.shape[-1]
  places = values + 256 * np.arange(channels)
  counts = np.zeros((len(values), 256 * channels), np.int16)
  for block, row in zip(counts, places.reshape(len(values), -1), strict=True):
    block += np.bincount(row, minlength=len(block)).astype(np.int16)
  return counts


def _neighbours(
    own: np.ndarray, theirs: np.ndarray, share: float
) -> np.ndarray:
  """How badly j fits as the neighbour after i, float32 [N, N].

  Args:
    own: counts of the picture's blocks, [N, K].
    theirs: of a crop's, [N', K].
    share: of a block of the crop, how much of it lies over the second.
  """
  values = own[0].sum()
  costs = np.full((len(own),) * 2, _WORST * values, np.float32)
  for block in theirs:
    shared = np.minimum(own, block).sum(1)
    missing = [np.maximum(part * values - shared, 0)
               for part in (1 - share, share)]
    one, two = (
        np.lexsort((-shared, cost))[:_CANDIDATES] for cost in missing
    )
    both = np.minimum(own[one][:, None] + own[two], block).sum(2)
    cost = (values - both + missing[0][one][:, None] + missing[1][two])
    there = np.ix_(one, two)
    costs[there] = np.minimum(costs[there], cost)
  return costs


def _grow(costs: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """Blocks by cell, int [rows, columns], grown from the surest pair.

  Next is always the cell whose best block fits best compared with the second
  best; true neighbours of exact crops fit without a misfit. Where the picture
  ends is known by its size alone.
  """
  n = costs.shape[1]
  for cost in costs:
    np.fill_diagonal(cost, np.inf)
  by_side = [costs[0], costs[1], costs[0].T, costs[1].T]  # [i, j]: j there of i
  near, far = np.partition(costs, 1, axis=2)[..., :2].transpose(2, 0, 1)
  start = ((far + 1) / (near + 1)).max(0).argmax()
  free = np.ones(n, bool)
  placed: dict[tuple[int, int], int] = {}
  # Free cells beside placed ones: what each block would cost there.
  open_cells: dict[tuple[int, int], np.ndarray] = {}

  def put(cell: tuple[int, int], block: int) -> None:
    placed[cell], free[block] = block, False
    open_cells.pop(cell, None)
    for (down, across), cost in zip(_SIDES, by_side, strict=True):
      there = cell[0] + down, cell[1] + across
      if there not in placed:
        open_cells[there] = open_cells.get(there, 0) + cost[block]

  def fits(cell: tuple[int, int]) -> bool:
    return all(
        max(*xs, x) - min(*xs, x) < length
        for xs, x, length in zip(zip(*placed, strict=True), cell, grid,
                                 strict=True)
    )

  put((0, 0), int(start))
  while free.any():
    best = None
    for cell, known in open_cells.items():
      if not fits(cell):
        continue
      cost = np.where(free, known, np.inf)
      block = int(cost.argmin())
      least = float(cost[block])
      cost[block] = np.inf
      sure = (float(cost.min()) + 1) / (least + 1)
      if best is None or sure > best[0]:
        best = sure, cell, block
    put(*best[1:])
  top, left = (min(xs) for xs in zip(*placed, strict=True))
  table = np.zeros(grid, int)
  for (row, column), block in placed.items():
    table[row - top, column - left] = block
  return table


def _check(knowledge: Knowledge) -> None:
  scheme = knowledge.scheme
  if knowledge.noise or ops_of(scheme, Level):
    raise refuse("containment", scheme, "blocks that overlap share none of the"
                 " numbers that are left of their values.")
  moves = ops_of(scheme, BlockScramble)
  if not moves or any(op.height or op.width or op.fraction != 1
                      for op in moves):
    raise refuse("containment", scheme, "it looks for blocks that were moved"
                 " over the whole image.")
  if any(type(op) not in (BlockScramble, PixelShuffle) or (
      type(op) is PixelShuffle and op.scope != "block"
  ) for op in scheme.ops):
    raise refuse("containment", scheme, "it takes values that are moved inside"
                 " each block and not changed; see 'jigsaw'.")
