"""What the tests of attacks share."""

import jax
import numpy as np

from ppseg_jax.attacks import Budget, Knowledge, targets
from ppseg_jax.data.streets.source import render
from ppseg_jax.encryption import Scheme, key_from_seed, reference

HEIGHT, WIDTH = 96, 128
BLOCK = 8
SMALL = Budget(steps=2, rounds=6, tries=8)


def get(scheme):
  return scheme if isinstance(scheme, Scheme) else targets.get(scheme)


def hidden(scheme, image, seed=0, block=BLOCK):
  """The ciphertext, by the reference: nothing is compiled for one image."""
  key = np.asarray(jax.random.key_data(key_from_seed(seed)))
  return reference.encrypt(get(scheme), key, image, block)


def know(scheme, *ciphertexts, block=BLOCK, **fields):
  return Knowledge(np.stack(ciphertexts), get(scheme), block, **fields)


def street(seed=3, index=5):
  """A drawn scene and its labels, uint8 [96, 128, 3] and [96, 128]."""
  return render(seed, index, HEIGHT, WIDTH)
