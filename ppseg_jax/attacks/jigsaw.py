"""Puts scrambled blocks back by how their borders fit.

Assumes whole blocks moved and nothing else, or besides one permutation of the
values inside them shared by all blocks of an image, which `correlation` undoes
first. With a permutation for every block there are no borders to fit; what is
left then is in `layout`.
Source: Chuman and Kiya, Information 14(6):311 (2023), in aim; the assembly is
that of Gallagher, CVPR 2012: best-fitting pairs first, never one over another.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from ppseg_jax.attacks import correlation, layout
from ppseg_jax.attacks.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    join,
    refuse,
    scrambles,
    split,
)
from ppseg_jax.encryption import (
    ColourShuffle,
    NegativePositive,
    PixelShuffle,
    RotateFlip,
    ops_of,
)

_CANDIDATES = 6  # neighbours a side of a piece that are tried


def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """Assembles each ciphertext on its own.

  Where other images are given, `layout`'s network says where in the frame the
  assembled fragments belong, and where it is bright tells which way up a
  picture is that an undone shuffle left mirrored or turned over.

  Notes: `border`, the mean step across the borders of the result.
  """
  if not scrambles(knowledge.scheme):
    raise refuse("jigsaw", knowledge.scheme, "its blocks are at their places.")
  if ops_of(knowledge.scheme, RotateFlip | NegativePositive | ColourShuffle):
    raise refuse("jigsaw", knowledge.scheme,
                 "it tries no turns, signs or colour orders; see 'layout'.")
  shuffles = ops_of(knowledge.scheme, PixelShuffle)
  if any(op.scope == "block" for op in shuffles):
    raise refuse(
        "jigsaw", knowledge.scheme,
        "each block is shuffled by its own permutation, which leaves no"
        " borders to fit; see 'layout'."
    )
  places = [None] * len(knowledge.ciphertexts)
  if knowledge.others is not None:
    guess = layout.fit_placer(knowledge, seed, budget.steps)
    places = map(guess, layout.as_bags(knowledge, knowledge.ciphertexts))
  found, borders = [], []
  for blocks, place in zip(
      split(knowledge.ciphertexts, knowledge.block), places, strict=True
  ):
    ways = [blocks]
    if shuffles:
      blocks, _ = correlation.open_blocks(
          blocks, knowledge.scheme, shuffles[0].unit, budget.rounds
      )
      ways = [blocks, blocks.swapaxes(1, 2)]
    laid = [way[assemble(way, knowledge.grid, place)] for way in ways]
    best = min(laid, key=lambda x: correlation.border(x, knowledge.grid))
    borders.append(correlation.border(best, knowledge.grid))
    image = join(best[None], knowledge.grid)[0]
    if shuffles:
      flips = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
      image = correlation.as_usual(flips, knowledge.others)
    found.append(image)
  return Outcome(np.stack(found), {"border": float(np.mean(borders))})


def misfit(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """How badly block j fits right of and below block i, float32 [N, N] each."""
  x = blocks.astype(np.float32)
  n = len(x)

  def between(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    cost = np.stack([abs(two - row).mean(1) for row in one])
    np.fill_diagonal(cost, np.inf)
    return cost

  # A line drawn on across the border: value plus half the last slope.
  right = 1.5 * x[:, :, -1] - 0.5 * x[:, :, -2]
  left = 1.5 * x[:, :, 0] - 0.5 * x[:, :, 1]
  below = 1.5 * x[:, -1] - 0.5 * x[:, -2]
  above = 1.5 * x[:, 0] - 0.5 * x[:, 1]
  return (between(right.reshape(n, -1), left.reshape(n, -1)),
          between(below.reshape(n, -1), above.reshape(n, -1)))


def assemble(
    blocks: np.ndarray, grid: tuple[int, int], place: np.ndarray | None = None
) -> np.ndarray:
  """Which block lies in each cell, int [N] in row-major order.

  Args:
    blocks: uint8 [N, M, M, C].
    grid: rows and columns of the frame.
    place: log p of each block (first axis) in each cell, [N, N].
  """
  right, down = misfit(blocks)
  pieces = _join_pairs(right, down, grid)
  if place is None:
    place = np.zeros((len(blocks), len(blocks)), np.float32)
  table = _into_frame(pieces, grid, place)
  return _fill(table, right, down).ravel()


def _edges(cost: np.ndarray) -> list[tuple[float, int, int]]:
  """The likeliest neighbours, with how far they are better than the next."""
  second_row = np.partition(cost, 1, 1)[:, 1:2]
  second_column = np.partition(cost, 1, 0)[1:2]
  ratio = cost / (np.minimum(second_row, second_column) + 1.0)
  nearest = np.argpartition(cost, _CANDIDATES, 1)[:, :_CANDIDATES]
  return [(float(ratio[i, j]), i, int(j))
          for i in range(len(cost)) for j in nearest[i]]


def _join_pairs(
    right: np.ndarray, down: np.ndarray, grid: tuple[int, int]
) -> list[dict[int, tuple[int, int]]]:
  """Fragments, {piece: (row, column)} each, largest first."""
  edges = [(*edge, (0, 1)) for edge in _edges(right)]
  edges += [(*edge, (1, 0)) for edge in _edges(down)]
  fragment = [{i: (0, 0)} for i in range(len(right))]
  for _, i, j, (dy, dx) in sorted(edges):
    one, two = fragment[i], fragment[j]
    if one is two:
      continue
    shift = (one[i][0] + dy - two[j][0], one[i][1] + dx - two[j][1])
    moved = {k: (y + shift[0], x + shift[1]) for k, (y, x) in two.items()}
    cells = set(one.values())
    if any(cell in cells for cell in moved.values()):
      continue
    places = np.array([*cells, *moved.values()])
    if (np.ptp(places, 0) >= grid).any():
      continue
    one.update(moved)
    for k in moved:
      fragment[k] = one
  unique = {id(part): part for part in fragment}
  return sorted(unique.values(), key=len, reverse=True)


def _into_frame(
    pieces: list[dict[int, tuple[int, int]]],
    grid: tuple[int, int],
    place: np.ndarray,
) -> np.ndarray:
  """Lays fragments where they are free and likeliest; -1 is an empty cell."""
  table = np.full(grid, -1)
  for part in pieces:
    if len(part) == 1 and (table >= 0).any():
      break
    numbers = np.array(list(part))
    cells = np.array(list(part.values()))
    cells -= cells.min(0)
    spare = np.array(grid) - cells.max(0)
    best, likely = None, -np.inf
    for corner in np.ndindex(*spare):
      y, x = (cells + corner).T
      score = place[numbers, y * grid[1] + x].sum()
      if score > likely and (table[y, x] < 0).all():
        best, likely = (y, x), score
    if best:
      table[best] = numbers
  return table


def _fill(
    table: np.ndarray, right: np.ndarray, down: np.ndarray
) -> np.ndarray:
  """Puts the left-over pieces where they fit their neighbours best."""
  table = table.copy()
  fixed = table >= 0
  rest = np.setdiff1d(np.arange(len(right)), table[fixed])
  for _ in range(4):
    empty = np.argwhere(~fixed)
    if not len(rest):
      break
    cost = np.zeros((len(rest), len(empty)))
    for k, (y, x) in enumerate(empty):
      for dy, dx, matrix in ((0, -1, right), (0, 1, right.T),
                             (-1, 0, down), (1, 0, down.T)):
        v, u = y + dy, x + dx
        inside = 0 <= v < table.shape[0] and 0 <= u < table.shape[1]
        if inside and table[v, u] >= 0:
          cost[:, k] += np.minimum(matrix[table[v, u], rest], 255)
    piece, cell = linear_sum_assignment(cost)
    table[tuple(empty[cell].T)] = rest[piece]
  return table
