"""Lays the values of each block out by rank along a smooth surface.

Assumes blocks at their places whose values are shuffled inside them and not
changed, so that all but the order in each block is known: no training, no key,
no other image. The surface begins as the mosaic. In turns each block's values
are put where the surface has their ranks and the picture is smoothed, which
goes down towards a smooth picture of these histograms. There are many; noise
leads to several, whose mean, blurred by less than a pixel, is taken. At a level
the values are guessed first, on straight lines through the means of groups.
Source: this project.
"""

import numpy as np

from ppseg_jax.attacks.parts import surfaces
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    level_of,
    refuse,
)


@declare()
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """The mean of pictures of `budget.rounds` turns, grey where channels mix.

  Raises UserError for a scheme that is not one shuffle inside each block, and
  at a level of one number, which has no ranks.
  """
  surfaces.check_ranks("rank", knowledge.scheme)
  level = level_of(knowledge.scheme)
  if level and level.groups == 1:
    raise refuse("rank", knowledge.scheme,
                 "one mean is left of each block; see 'mosaic'.")
  images = surfaces.ranked(
      knowledge, knowledge.ciphertexts, seed, budget.rounds
  )
  images = np.broadcast_to(images, knowledge.ciphertexts.shape)
  return Outcome(np.clip(np.rint(images), 0, 255).astype(np.uint8))
