"""The clients of an experiment: at which level each shows its image."""

import dataclasses

import jax
import numpy as np

from ppseg_jax.encryption import canonical, release
from ppseg_jax.encryption.keys import TRAIN
from ppseg_jax.runs import keys
from tests.helpers import photo, tiny_config

LEVELS = ("", "q4", "q1b4")


def test_each_image_is_at_the_level_that_its_key_draws_and_no_other():
  config = tiny_config(levels=LEVELS)
  clients = keys.of_training(config)
  images = np.stack([photo(16, 24, i) for i in range(12)])
  batch = {"image": images, "index": np.arange(12),
           "epoch": np.zeros(12, np.int32)}
  encrypt = jax.jit(lambda batch: clients.encrypt(batch, TRAIN))
  ciphers = np.asarray(encrypt(batch))
  np.testing.assert_array_equal(  # whatever the order of the batch
      encrypt({name: x[::-1] for name, x in batch.items()})[::-1], ciphers
  )
  form = jax.jit(lambda x: canonical(config.scheme, x, config.block))
  shown = np.asarray(form(ciphers))
  at = np.stack([
      np.asarray(form(release(config.scheme, level, images, config.block)))
      for level in LEVELS
  ])
  same = (at == shown).all((2, 3))  # [levels, images]
  assert (same.sum(0) == 1).all() and (same.sum(1) > 0).all()


def test_a_test_draws_no_level_and_levels_have_keys_of_their_own():
  config = tiny_config(levels=LEVELS)
  assert keys.of_test(config).levels == ()
  clients = keys.of_training(config)
  batch = {"index": np.arange(2), "epoch": np.zeros(2, np.int32)}
  other = dataclasses.replace(clients, levels=())
  words = [jax.random.key_data(x.keys(batch, TRAIN)) for x in (clients, other)]
  assert (np.asarray(words[0]) != np.asarray(words[1])).any(1).all()
