"""Draws the likeliest image with a given canonical form, by a network.

Assumes a scheme with a canonical form and its blocks at their places, and
plain images of other places. Since the ciphertext tells nothing but the
canonical form, no attack can do better than the best one on that form; this
network is a lower bound on that best one, not the best one itself.
Source: this project.
"""

import jax.numpy as jnp
import numpy as np

from ppseg_jax.attacks.parts import networks
from ppseg_jax.attacks.parts.invariants import quantiles
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    refuse,
    scrambles,
)
from ppseg_jax.attacks.parts.ranks import by_rank
from ppseg_jax.attacks.parts.scores import scores
from ppseg_jax.encryption import PixelShuffle, canonical_steps, ops_of
from ppseg_jax.encryption.blocks import join, split

_QUANTILES = 12


def features(knowledge: Knowledge, images: np.ndarray) -> np.ndarray:
  """Quantiles of each block at its place, float32 [B, h, w, F]."""
  chosen = quantiles(knowledge, images, _QUANTILES)
  return chosen.reshape(len(chosen), *knowledge.grid, -1)


@declare(needs=("others",))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """The network's picture, or that picture with the true histograms.

  Giving each block exactly the values it is known to have (by rank) makes the
  picture one that could have been encrypted; whichever of the two is nearer to
  the plain image on images held back from training is taken.

  Notes: `exact_values`, 1 where the values were put in by rank.
  """
  if scrambles(knowledge.scheme):
    raise refuse("likeliest", knowledge.scheme,
                 "its blocks are not at their places; see 'layout'.")
  if not ops_of(knowledge.scheme, PixelShuffle):
    raise refuse("likeliest", knowledge.scheme,
                 "its pixels are at their places; see 'features'.")
  canonical_steps(knowledge.scheme)  # says why where there is no such form
  inputs = features(knowledge, knowledge.others)
  held = max(1, len(inputs) // 8)
  if len(inputs) < 2:
    raise refuse("likeliest", knowledge.scheme,
                 "it needs at least two other images to learn from.")
  paint = _fit_painter(
      knowledge, inputs[held:], knowledge.others[held:], seed, budget.steps
  )
  drawn = paint(inputs[:held])
  exact = _exact(knowledge, knowledge.others[:held], drawn)
  gain = [
      scores(knowledge.others[:held], x)["ssim"] for x in (drawn, exact)
  ] if exact is not None else [1, 0]
  images = paint(features(knowledge, knowledge.ciphertexts))
  use = gain[1] > gain[0]
  if use:
    images = _exact(knowledge, knowledge.ciphertexts, images)
  return Outcome(images, {"exact_values": float(use)})


def _fit_painter(knowledge, inputs, images, seed, steps):
  """Learns features [K, h, w, F] -> images; returns a NumPy function."""
  model = networks.Painter(knowledge.block, _QUANTILES)
  targets = images.astype(np.float32) / 127.5 - 1

  def batch(rng):
    chosen = rng.integers(0, len(inputs), networks.BATCH)
    y, x = networks.crop(rng, knowledge.grid)
    m = knowledge.block
    pixels = (slice(y.start * m, y.stop * m), slice(x.start * m, x.stop * m))
    return inputs[chosen][:, y, x], targets[chosen][:, *pixels]

  apply = networks.fit(
      model, batch, lambda x, y: jnp.abs(x - y).mean(), steps, seed
  )
  return networks.to_images(apply)


def _exact(
    knowledge: Knowledge, ciphertexts: np.ndarray, drawn: np.ndarray
) -> np.ndarray | None:
  """The drawn images with the values of each block's histogram, by rank.

  None where the values' channel is not known or their sign is not.
  """
  if [type(op) for op in knowledge.scheme.ops] != [PixelShuffle]:
    return None
  if knowledge.scheme.ops[0].unit == "value":
    return None
  picture, values = (
      split(x, knowledge.block) for x in (drawn, ciphertexts)
  )
  shape = (*picture.shape[:2], -1, 3)
  laid = by_rank(np.sort(values.reshape(shape), 2), picture.reshape(shape))
  return join(laid.reshape(picture.shape), knowledge.grid)
