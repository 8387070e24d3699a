"""Folds v and 255 - v together: no key needed, whatever the key plan.

Assumes a scheme that negates values and leaves them in their block; where they
also stay at their pixel (PE), the folded picture shows every contour.
Source: feature reconstruction, Chang and Case, arXiv 2004.13263 (2020).
"""

import numpy as np

from ppseg_jax.attacks.parts.halves import join_halves, split_halves
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    refuse,
)
from ppseg_jax.encryption import NegativePositive, NibbleSplit, ops_of


@declare(uses=("others",))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """min(v, 255 - v) of every value, stretched to the whole range.

  Half bytes are folded each on its own where the scheme splits them.

  With other images given, bright and dark are set by them: where most of their
  values at a pixel are bright, the fold is taken upwards.

  Raises UserError for a scheme without negative-positive.
  """
  del seed, budget
  if not ops_of(knowledge.scheme, NegativePositive):
    raise refuse("features", knowledge.scheme, "it negates no values.")
  images = knowledge.ciphertexts
  if ops_of(knowledge.scheme, NibbleSplit):
    halves = split_halves(images)
    folded = join_halves(np.minimum(halves, 15 - halves))
  else:
    folded = np.minimum(images, 255 - images)
  if knowledge.others is None:
    return Outcome(folded * 2)
  bright = (knowledge.others >= 128).mean((0, 3), keepdims=True) > 0.5
  return Outcome(np.where(bright, 255 - folded, folded).astype(np.uint8))
