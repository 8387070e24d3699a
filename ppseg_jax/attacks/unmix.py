"""Undoes the mean of the parts of blocks, by ridge regression.

Assumes sub-patches mixed without a key and blocks at their places, and plain
images of other places. Each pixel of a block is guessed, as a linear function,
from the mean of its block's parts and those of the blocks around it: smooth
shading, and edges that go on from block to block, are told by those.
Source: this project.
"""

import numpy as np

from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    mix_of,
    refuse,
)
from ppseg_jax.attacks.parts.levels import leave
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.encryption.mix import Mix

_AROUND = 1  # blocks to each side that are looked at
_RIDGE = 1e-3  # of the number of blocks learned from, for values of -1 to 1


@declare(needs=("others",))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """The picture that ridge regression gives; the seed plays no part.

  Raises UserError for a scheme that does anything but mix parts of blocks.
  """
  del seed, budget
  scheme, m = knowledge.scheme, knowledge.block
  mix = mix_of(scheme)
  if mix is None:
    raise refuse("unmix", scheme,
                 "it does not mix sub-patches, or not that alone.")
  square = target = 0
  for image in knowledge.others:
    x = features(knowledge, mix, np.asarray(leave(mix, m, image)))
    y = split(image[None], m)[0].reshape(len(x), -1) / 127.5 - 1
    square, target = square + x.T @ x, target + x.T @ y
  ridge = _RIDGE * len(x) * len(knowledge.others) * np.eye(len(square))
  weights = np.linalg.solve(square + ridge, target)
  found = np.stack([
      features(knowledge, mix, image) @ weights
      for image in knowledge.ciphertexts
  ])  # [B, N, M*M*3], -1 to 1
  images = join(found.reshape(*found.shape[:2], m, m, 3), knowledge.grid)
  images = np.clip(np.rint((images + 1) * 127.5), 0, 255)
  return Outcome(images.astype(np.uint8))


def features(knowledge: Knowledge, mix: Mix, image: np.ndarray) -> np.ndarray:
  """Of each block of a mixed image the means in and around it, [N, F]."""
  rows, columns = knowledge.grid
  side = knowledge.block // mix.parts
  means = split(image[None], knowledge.block)[0, :, :side, :side]
  means = means.reshape(rows, columns, -1) / 127.5 - 1
  wide = np.pad(means, ((_AROUND,) * 2, (_AROUND,) * 2, (0, 0)), "edge")
  size = 2 * _AROUND + 1
  around = [wide[y:y + rows, x:x + columns]
            for y in range(size) for x in range(size)]
  found = np.concatenate([*around, np.ones((rows, columns, 1))], -1)
  return found.reshape(rows * columns, -1)
