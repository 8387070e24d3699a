"""Tries keys at random: what it costs, measured.

The key space is that of the generator, 2**128, and not the number of
permutations, however large that is. Assumes the ciphertext and the scheme.
Source: Kerckhoffs; the size is `ppseg_jax.encryption.keys.IMPL`'s.
"""

import math
import time

import jax
import numpy as np

from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    level_of,
    refuse,
)
from ppseg_jax.encryption import decrypt
from ppseg_jax.encryption.keys import IMPL

KEY_BITS = 128
_AT_ONCE = 8
_YEAR = 365.25 * 24 * 3600


@declare()
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """The smoothest of `budget.tries` decryptions of each ciphertext.

  Notes: `key_bits`; `keys_per_second`, whole decryptions on this machine;
  `log10_years` until half of the key space is tried at that speed.
  """
  if not knowledge.scheme.ops:
    raise refuse("brute_force", knowledge.scheme, "there is no key.")
  if level_of(knowledge.scheme):
    raise refuse("brute_force", knowledge.scheme,
                 "what a level leaves out no key brings back.")
  rng = np.random.default_rng(seed)

  @jax.jit
  def best(words, image):
    def one(word):
      key = jax.random.wrap_key_data(word, impl=IMPL)
      return decrypt(knowledge.scheme, key, image, knowledge.block)
    opened = jax.vmap(one)(words)
    step = opened.astype("int16")
    rough = (abs(step[:, 1:] - step[:, :-1]).mean((1, 2, 3))
             + abs(step[:, :, 1:] - step[:, :, :-1]).mean((1, 2, 3)))
    return opened[rough.argmin()], rough.min()

  def words():
    return rng.integers(0, 2**32, (_AT_ONCE, 4), np.uint32)

  jax.block_until_ready(best(words(), knowledge.ciphertexts[0]))  # compiles
  rounds = math.ceil(budget.tries / _AT_ONCE / len(knowledge.ciphertexts))
  start, found = time.perf_counter(), []
  for image in knowledge.ciphertexts:
    tried = [best(words(), image) for _ in range(rounds)]
    found.append(np.asarray(min(tried, key=lambda pair: float(pair[1]))[0]))
  seconds = time.perf_counter() - start
  rate = rounds * _AT_ONCE * len(found) / seconds
  years = (KEY_BITS - 1) * math.log10(2) - math.log10(rate * _YEAR)
  return Outcome(np.stack(found), {
      "key_bits": KEY_BITS, "keys_per_second": rate, "log10_years": years,
  })
