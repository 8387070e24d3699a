"""Lays the values of each block out by rank along a smooth surface.

Assumes blocks at their places whose values are shuffled inside them and not
changed, so that all but the order in each block is known: no training, no key,
no other image. The surface begins as the mosaic. In turns each block's values
are put where the surface has their ranks and the picture is smoothed, which
goes down towards a smooth picture of these histograms. There are many; noise
leads to several, whose mean, blurred by less than a pixel, is taken.
Source: this project.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    mixes_channels,
    refuse,
    scrambles,
)
from ppseg_jax.attacks.parts.means import block_means, upsample
from ppseg_jax.attacks.parts.ranks import by_rank
from ppseg_jax.encryption import PixelShuffle, Scheme
from ppseg_jax.encryption.blocks import join, split

# Chosen on eight frames of CamVid val at 96x128 with blocks of 8.
_PICTURES = 8  # in the mean
_NOISE = 8.0  # grey levels, standard deviation, added before ranking
_SMOOTH = 0.25  # of a block's side, sigma
_BLUR = 0.7  # pixels, sigma
_GREY = 0.85  # of the spread of mixed values that is not the channels'


@declare()
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """The mean of `_PICTURES` pictures, each of `budget.rounds` turns.

  Where channels are mixed the picture is grey, of the values three at a time,
  drawn together since part of their spread is that of the channels.

  Raises UserError for a scheme that is not one shuffle inside each block.
  """
  _check(knowledge.scheme)
  ciphertexts, block = knowledge.ciphertexts, knowledge.block
  values = split(ciphertexts, block).astype(np.float32)
  shape = (*values.shape[:2], block * block, 3)
  if mixes_channels(knowledge.scheme):
    values = np.sort(values.reshape(*shape[:2], -1), 2).reshape(shape)
    values = values.mean(3, keepdims=True)
    mean = values.mean(2, keepdims=True)
    values = mean + _GREY * (values - mean)
  else:
    values = np.sort(values.reshape(shape), 2)
  start = upsample(block_means(knowledge, ciphertexts), block)
  start = start[..., :values.shape[3]].astype(np.float32)
  found = [
      _draw(one, surface, knowledge.grid, seed, budget.rounds)
      for one, surface in zip(values, start, strict=True)
  ]
  images = np.broadcast_to(np.stack(found), ciphertexts.shape)
  return Outcome(np.clip(np.rint(images), 0, 255).astype(np.uint8))


def _draw(
    values: np.ndarray,
    start: np.ndarray,
    grid: tuple[int, int],
    seed: int,
    rounds: int,
) -> np.ndarray:
  """One image, float32 [H, W, C], of sorted values [N, P, C] and a surface."""
  rng = np.random.default_rng(seed)
  side = start.shape[0] // grid[0]

  def lay(surface: np.ndarray) -> np.ndarray:
    blocks = split(surface[None], side)
    picture = blocks.reshape(1, *values.shape)
    return join(by_rank(values[None], picture).reshape(blocks.shape), grid)[0]

  def smooth(picture: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(picture, sigma, axes=(0, 1))

  total = np.zeros_like(start)
  for _ in range(_PICTURES):
    surface = start
    for _ in range(rounds):
      noise = smooth(rng.standard_normal(start.shape[:2], np.float32), 1)
      noise *= _NOISE / noise.std()
      surface = smooth(lay(surface + noise[..., None]), _SMOOTH * side)
    total += lay(surface)
  return smooth(total / _PICTURES, _BLUR)


def _check(scheme: Scheme) -> None:
  """Raises UserError unless sorted values are all that a key leaves."""
  if scrambles(scheme):
    raise refuse("rank", scheme,
                 "its blocks are not at their places; see 'layout'.")
  if [type(op) for op in scheme.ops] != [PixelShuffle]:
    raise refuse("rank", scheme,
                 "it takes one shuffle of unchanged values in each block.")
  op = scheme.ops[0]
  if (op.scope, op.cell, op.fraction) != ("block", 0, 1):
    raise refuse("rank", scheme,
                 "it takes a shuffle of the whole block, another for each; see"
                 " 'correlation'.")
