"""The mean of each block, upsampled: what every block histogram gives away.

Assumes that blocks stay at their places. Needs neither training nor key.
Source: this project.
"""


from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    refuse,
    scrambles,
)
from ppseg_jax.attacks.parts.means import block_means, upsample


@declare()
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """Means by channel, or of all values where the scheme mixes channels.

  Where it negates, of min(v, 255 - v), stretched to the whole range.
  """
  del seed, budget
  if scrambles(knowledge.scheme):
    raise refuse("mosaic", knowledge.scheme,
                 "its blocks are not at their places; see 'layout'.")
  means = block_means(knowledge, knowledge.ciphertexts)
  return Outcome(upsample(means, knowledge.block))
