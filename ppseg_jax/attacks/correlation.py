"""Opens a shuffle shared by all blocks of an image, from its ciphertext alone.

Assumes one permutation of the positions for all blocks of an image (scope
`image`), whatever its unit, with or without negative-positive; nothing else:
no key, no other image, no second ciphertext. Larger images make it better,
since each block is one more sample of the differences between positions.

Source: this project; the first look at position correlations of shuffled
blocks known to us is Chuman and Kiya, Information 14(6):311 (2023).
"""

import numpy as np

from ppseg_jax.attacks.parts.borders import place_symmetry
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    level_of,
    refuse,
    scrambles,
)
from ppseg_jax.attacks.parts.shuffles import open_blocks
from ppseg_jax.attacks.parts.usual import as_usual, name_channels
from ppseg_jax.encryption import NegativePositive, PixelShuffle, ops_of
from ppseg_jax.encryption.blocks import join, split

_NAME = "correlation"


@declare(uses=("others",))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """Reconstructs every ciphertext on its own; the seed plays no part.

  Where the scheme moves blocks too they stay where the ciphertext has them, and
  the symmetry of the block is not resolved.

  Notes: `stress`, how badly the found layout explains the differences.

  Raises UserError for a scheme without a pixel shuffle, or at a level.
  """
  del seed
  shuffles = ops_of(knowledge.scheme, PixelShuffle)
  if not shuffles:
    raise refuse(_NAME, knowledge.scheme, "it shuffles no values in a block.")
  if level_of(knowledge.scheme):
    raise refuse(_NAME, knowledge.scheme,
                 "a level puts values in order before they are shuffled, so"
                 " that positions tell nothing of the picture.")
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
