"""Guesses where the blocks of a hidden layout lay.

Assumes block scrambling over anything, and plain images of other places. A
network without positions learns the row and column of a block from the
histograms of the bag it is in; an assignment puts the blocks down; neighbours
that are alike are then moved together.
Source: this project.
"""

import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import linear_sum_assignment

from ppseg_jax.attacks.parts import means, networks, regions
from ppseg_jax.attacks.parts.invariants import quantiles
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    refuse,
    scrambles,
)
from ppseg_jax.encryption import BlockScramble
from ppseg_jax.encryption.blocks import join, split

_QUANTILES = 8


@declare(needs=("others",))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """Blocks at their guessed places: themselves, or their means if changed."""
  if not scrambles(knowledge.scheme):
    raise refuse("layout", knowledge.scheme, "its blocks are at their places.")
  guess = fit_placer(knowledge, seed, budget.steps)
  bags = as_bags(knowledge, knowledge.ciphertexts)
  scale = _neighbour_scale(knowledge)
  barred = np.where(regions.allowed_cells(knowledge), 0, regions.NEVER)
  order = np.stack([
      place(guess(bag) + barred, bag, knowledge.grid, scale, budget.rounds)
      for bag in bags
  ])
  blocks = split(knowledge.ciphertexts, knowledge.block)
  blocks = np.take_along_axis(blocks, order[:, :, None, None, None], 1)
  images = join(blocks, knowledge.grid)
  if all(isinstance(op, BlockScramble) for op in knowledge.scheme.ops):
    return Outcome(images)
  colours = means.block_means(knowledge, images)
  return Outcome(means.upsample(colours, knowledge.block))


def as_bags(knowledge: Knowledge, images: np.ndarray) -> np.ndarray:
  """What the network reads of each block, float32 [B, N, F]."""
  return quantiles(knowledge, images, _QUANTILES)


def fit_placer(knowledge: Knowledge, seed: int, steps: int):
  """Trains the network; returns (bag [N, F]) -> log p [N blocks, N cells]."""
  rows, columns = knowledge.grid
  bags = as_bags(knowledge, knowledge.others)
  cell = np.arange(rows * columns)

  def batch(rng):
    chosen = bags[rng.integers(0, len(bags), networks.BATCH)]
    # mirrored streets are streets too
    mirrored = rng.random(len(chosen)) < 0.5
    chosen = chosen.reshape(len(chosen), rows, columns, -1)
    chosen[mirrored] = chosen[mirrored, :, ::-1]
    inputs = chosen.reshape(len(chosen), rows * columns, -1)
    return inputs, np.broadcast_to(cell, inputs.shape[:2])

  def loss(logits, cell):
    cross = optax.softmax_cross_entropy_with_integer_labels
    row = cross(logits[..., :rows], cell // columns)
    return (row + cross(logits[..., rows:], cell % columns)).mean()

  apply = networks.fit(
      networks.Placer(rows, columns), batch, loss, steps, seed
  )

  def guess(bag: np.ndarray) -> np.ndarray:
    logits = apply(bag[None])[0]
    row = jnp.log(jnp.maximum(_softmax(logits[:, :rows]), 1e-6))
    column = jnp.log(jnp.maximum(_softmax(logits[:, rows:]), 1e-6))
    return np.asarray(row)[:, cell // columns] + np.asarray(
        column)[:, cell % columns]

  return guess


def _softmax(logits):
  weights = jnp.exp(logits - logits.max(-1, keepdims=True))
  return weights / weights.sum(-1, keepdims=True)


def _neighbour_scale(knowledge: Knowledge) -> float:
  bags = as_bags(knowledge, knowledge.others)
  cells = bags.reshape(len(bags), *knowledge.grid, -1)
  return float(abs(cells[:, :, 1:] - cells[:, :, :-1]).mean()) + 1e-6


def place(
    guess: np.ndarray,
    bag: np.ndarray,
    grid: tuple[int, int],
    scale: float,
    rounds: int,
) -> np.ndarray:
  """The block for each cell, int [N].

  Blocks of every other cell are exchanged among themselves while the rest
  stay, so that what they should be like does not move with them.
  """
  _, cell = linear_sum_assignment(-guess)
  order = np.empty_like(cell)
  order[cell] = np.arange(len(cell))
  y, x = np.divmod(np.arange(len(order)), grid[1])
  for turn in range(2 * rounds):
    laid = bag[order].reshape(*grid, -1)
    padded = np.pad(laid, ((1, 1), (1, 1), (0, 0)), "edge")
    around = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2]
              + padded[1:-1, 2:]) / 4
    some = np.flatnonzero((y + x) % 2 == turn % 2)
    pieces = order[some]
    wanted = around.reshape(len(order), -1)[some]
    unlike = np.stack([abs(wanted - bag[k]).mean(1) for k in pieces]) / scale
    piece, spot = linear_sum_assignment(unlike - guess[np.ix_(pieces, some)])
    order[some[spot]] = pieces[piece]
  return order
