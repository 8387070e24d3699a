"""Learns to undo a scheme from pairs the attacker encrypts itself.

Assumes plain images of other places and the scheme, encrypted afresh at every
step under keys never used again, so that only what holds under every key can
be learned. Where there is a canonical form, `likeliest` reads it instead.
Source: SIA-GAN (2021) and Ito et al.'s inverse transformation network, in
kind; the network is this project's.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.attacks.parts import networks
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    mix_of,
    refuse,
)
from ppseg_jax.encryption import canonical_steps, encrypt
from ppseg_jax.encryption.blocks import split
from ppseg_jax.encryption.keys import IMPL
from ppseg_jax.errors import UserError


@declare(needs=("others",))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """The network's picture of each ciphertext."""
  # Of a mix alone the form is pixels at their places.
  if _has_canonical(knowledge) and not mix_of(knowledge.scheme):
    raise refuse("inversion", knowledge.scheme,
                 "it has a canonical form, which tells as much; see"
                 " 'likeliest'.")
  others = knowledge.others
  shuffle = jax.jit(lambda words, images: encrypt(
      knowledge.scheme, jax.random.wrap_key_data(words, impl=IMPL), images,
      knowledge.block,
  ))

  def batch(rng):
    images = others[rng.integers(0, len(others), networks.BATCH)]
    y, x = networks.crop(rng, knowledge.grid)
    m = knowledge.block
    images = images[:, y.start * m:y.stop * m, x.start * m:x.stop * m]
    words = rng.integers(0, 2**32, (len(images), 4), np.uint32)
    hidden = np.asarray(shuffle(words, images))
    return as_features(knowledge, hidden), images.astype(np.float32) / 127.5 - 1

  apply = networks.fit(
      networks.Painter(knowledge.block), batch,
      lambda x, y: jnp.abs(x - y).mean(), budget.steps, seed,
  )
  return Outcome(networks.to_images(apply)(
      as_features(knowledge, knowledge.ciphertexts)
  ))


def as_features(knowledge: Knowledge, images: np.ndarray) -> np.ndarray:
  """The values of each block, as they are, float32 [B, h, w, M*M*3]."""
  _, height, width, _ = images.shape
  m = knowledge.block
  cells = split(images, m).reshape(len(images), height // m, width // m, -1)
  return cells.astype(np.float32) / 127.5 - 1


def _has_canonical(knowledge: Knowledge) -> bool:
  try:
    canonical_steps(knowledge.scheme)
  except UserError:
    return False
  return True
