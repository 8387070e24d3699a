"""Several views of one scene, each under a key of its own, taken together.

Assumes further pictures that are whole-pixel pans or crops of the first, blocks
at their places and values that are shuffled inside blocks and not changed. Each
shows the histograms of another cut of the scene into blocks, and there are few
pictures that agree with all of them. Where a view lies is found by comparing
what it tells with a picture of the first. Needs no training, no key and no
other image. Source: this project.
"""

import dataclasses

import numpy as np

from ppseg_jax.attacks.parts import joint
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    refuse,
    scrambles,
)
from ppseg_jax.encryption import PixelShuffle, Scheme
from ppseg_jax.encryption.levels import Level

_TURNS = 3  # for each round of the budget, where there is no noise to follow


@declare(needs=("views",), uses=("corners",))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """A picture that agrees with every view; grey where channels are mixed.

  The views are placed, and placed again by the picture that they made, but
  where their corners are given.

  Raises UserError for a scheme that is not one shuffle inside each block.
  """
  _check(knowledge.scheme)
  turns = budget.rounds if knowledge.noise else _TURNS * budget.rounds
  images = []
  for number, (first, more) in enumerate(
      zip(knowledge.ciphertexts, knowledge.views, strict=True)
  ):
    rng = np.random.default_rng([seed, number])
    views = [joint.read(knowledge, cipher) for cipher in (first, *more)]

    def solve(views: list[joint.View], turns: int, rng=rng) -> np.ndarray:
      shape = knowledge.ciphertexts.shape[1:3]
      return joint.solve(views, shape, turns, knowledge.noise, rng)

    if knowledge.corners is not None:
      corners = knowledge.corners[number].tolist()
      views[1:] = [dataclasses.replace(view, corner=tuple(corner))
                   for view, corner in zip(views[1:], corners, strict=True)]
    elif len(views) > 1:
      picture = solve(views[:1], budget.rounds)
      for _ in range(2):
        placed = joint.place(views[1:], picture)
        picture = solve([views[0], *placed], budget.rounds)
      views[1:] = placed
    images.append(solve(views, turns))
  images = np.broadcast_to(np.stack(images), knowledge.ciphertexts.shape)
  return Outcome(
      np.clip(np.rint(images), 0, 255).astype(np.uint8),
      {"views": 1 + knowledge.views.shape[1]},
  )


def _check(scheme: Scheme) -> None:
  """Raises UserError unless sorted values, or a level, are all that is left."""
  if scrambles(scheme):
    raise refuse("views", scheme, "its blocks are not at their places; see"
                 " 'containment'.")
  ops = [op for op in scheme.ops if not isinstance(op, Level)]
  if [type(op) for op in ops] != [PixelShuffle] or (
      ops[0].scope, ops[0].cell, ops[0].fraction
  ) != ("block", 0, 1):
    raise refuse("views", scheme, "it takes one shuffle of unchanged values in"
                 " the whole of each block, another for each.")
