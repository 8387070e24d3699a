"""Pictures with the values of each block, in the ranks of a smooth surface."""

import numpy as np
from scipy.ndimage import gaussian_filter

from ppseg_jax.attacks.parts.knowledge import (
    Knowledge,
    level_of,
    mixes_channels,
    refuse,
    scrambles,
)
from ppseg_jax.attacks.parts.levels import interpolate
from ppseg_jax.attacks.parts.means import block_means, upsample
from ppseg_jax.attacks.parts.ranks import by_rank
from ppseg_jax.encryption import PixelShuffle, Scheme
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.encryption.levels import Level

# Chosen on eight frames of CamVid val at 96x128 with blocks of 8.
PICTURES = 8  # in the mean
_NOISE = 8.0  # grey levels, standard deviation, added before ranking
_SMOOTH = 0.25  # of a block's side, sigma
_BLUR = 0.7  # pixels, sigma
_GREY = 0.85  # of the spread of mixed values that is not the channels'


def check_ranks(attack: str, scheme: Scheme) -> None:
  """Raises UserError unless sorted values, or a level of them, are left."""
  if scrambles(scheme):
    raise refuse(attack, scheme,
                 "its blocks are not at their places; see 'layout'.")
  ops = [op for op in scheme.ops if not isinstance(op, Level)]
  if [type(op) for op in ops] != [PixelShuffle]:
    raise refuse(attack, scheme,
                 "it takes one shuffle of unchanged values in each block.")
  if (ops[0].scope, ops[0].cell, ops[0].fraction) != ("block", 0, 1):
    raise refuse(attack, scheme,
                 "it takes a shuffle of the whole block, another for each; see"
                 " 'correlation'.")


def ranked(
    knowledge: Knowledge, ciphertexts: np.ndarray, seed: int, rounds: int,
    pictures: int = PICTURES,
) -> np.ndarray:
  """The mean of some pictures of each ciphertext, each of `rounds` turns.

  Where channels are mixed they are grey, of the values three at a time, drawn
  together since part of their spread is that of the channels. Of a level of one
  group, which has no ranks, the means of the blocks are drawn smoothly.

  Args:
    knowledge: for scheme and block; the scheme passes `check_ranks`.
    ciphertexts: uint8 [B, H, W, 3].
    seed: of the noise that leads to several pictures.
    rounds: turns of laying out and smoothing.
    pictures: in the mean.

  Returns:
    float32 [B, H, W, 1 or 3], 0 to 255.
  """
  grey = mixes_channels(knowledge.scheme)
  start = upsample(block_means(knowledge, ciphertexts), knowledge.block)
  start = start[..., :1 if grey else 3].astype(np.float32)
  level = level_of(knowledge.scheme)
  if level and level.groups == 1:
    return start
  values = _values(knowledge, ciphertexts)
  return np.stack([
      _draw(one, surface, knowledge.grid, seed, rounds, pictures)
      for one, surface in zip(values, start, strict=True)
  ])


def _values(knowledge: Knowledge, ciphertexts: np.ndarray) -> np.ndarray:
  """Sorted values of each block, float32 [B, N, P, 1 or 3]."""
  level = level_of(knowledge.scheme)
  values = split(ciphertexts, knowledge.block).astype(np.float32)
  shape = (*values.shape[:2], -1, 3)
  mixed = mixes_channels(knowledge.scheme)
  values = values.reshape(*shape[:2], -1, 1) if mixed else values.reshape(shape)
  values = np.sort(values, 2)
  if level and level.groups:
    values = interpolate(values, level.groups)
  if not mixed:
    return values
  values = values.reshape(shape).mean(3, keepdims=True)
  mean = values.mean(2, keepdims=True)
  return mean + _GREY * (values - mean)


def _draw(
    values: np.ndarray,
    start: np.ndarray,
    grid: tuple[int, int],
    seed: int,
    rounds: int,
    pictures: int,
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
  for _ in range(pictures):
    surface = start
    for _ in range(rounds):
      noise = smooth(rng.standard_normal(start.shape[:2], np.float32), 1)
      noise *= _NOISE / noise.std()
      surface = smooth(lay(surface + noise[..., None]), _SMOOTH * side)
    total += lay(surface)
  return smooth(total / pictures, _BLUR)
