"""Guesses the colours of blocks whose channels were mixed, by ridge regression.

Assumes a scheme that shuffles the values of all channels of a block together,
blocks at their places, and plain images of other places. How far each channel's
mean is from the mean of all is guessed from the histograms of a block and of
those around it and from where it lies, and put onto the grey picture of `rank`.
Source: this project.
"""

import numpy as np

from ppseg_jax.attacks.parts import surfaces
from ppseg_jax.attacks.parts.invariants import quantiles
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    mixes_channels,
    refuse,
)
from ppseg_jax.attacks.parts.means import upsample
from ppseg_jax.encryption.blocks import split

# Chosen on frames of CamVid train at 96x128 with blocks of 8.
_QUANTILES = 12
_AROUND = 2  # blocks to each side that are looked at
_RIDGE = 1e-2  # of the number of blocks learned from


@declare(needs=("others",))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """The picture of `rank` with colours, the same all over a block but smoothed.

  Raises UserError for a scheme that keeps channels apart, or that `rank` does
  not take.
  """
  surfaces.check_ranks("chroma", knowledge.scheme)
  if not mixes_channels(knowledge.scheme):
    raise refuse("chroma", knowledge.scheme,
                 "its channels are not mixed; see 'rank'.")
  weights = fit(knowledge)
  colours = np.stack([
      features(knowledge, image) @ weights for image in knowledge.ciphertexts
  ]).reshape(-1, *knowledge.grid, 3)
  grey = surfaces.ranked(knowledge, knowledge.ciphertexts, seed, budget.rounds)
  # `upsample` keeps to 0 to 255: around grey.
  images = grey + (upsample(colours + 127.5, knowledge.block) - 127.5)
  return Outcome(np.clip(np.rint(images), 0, 255).astype(np.uint8))


def fit(knowledge: Knowledge) -> np.ndarray:
  """Weights [F, 3] from features to (R, G, B) - grey of a block's means."""
  square = target = 0
  for image in knowledge.others:
    x = features(knowledge, image)
    means = split(image[None], knowledge.block)[0].mean((1, 2))  # [N, 3]
    y = means - means.mean(1, keepdims=True)
    square, target = square + x.T @ x, target + x.T @ y
  count = len(knowledge.others) * len(x)
  ridge = _RIDGE * count * np.eye(len(square))
  return np.linalg.solve(square + ridge, target)


def features(knowledge: Knowledge, image: np.ndarray) -> np.ndarray:
  """Of each block of one image [H, W, 3]: what is seen around it, [N, F]."""
  seen = quantiles(knowledge, image[None], _QUANTILES)[0]
  rows, columns = knowledge.grid
  seen = seen.reshape(rows, columns, -1).astype(np.float64)
  wide = np.pad(seen, ((_AROUND,) * 2, (_AROUND,) * 2, (0, 0)), "edge")
  size = 2 * _AROUND + 1
  around = [wide[y:y + rows, x:x + columns]
            for y in range(size) for x in range(size)]
  down = np.linspace(-1, 1, rows)[:, None, None] + np.zeros((1, columns, 1))
  across = np.linspace(-1, 1, columns)[:, None] + np.zeros((rows, 1, 1))
  place = [np.ones_like(down), down, across, down**2, across**2]
  square = [seen**2, seen * down, seen * across]
  found = np.concatenate([*around, *place, *square], -1)
  return found.reshape(rows * columns, -1)
