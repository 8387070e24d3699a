"""The clients of an experiment: what each shows of its image."""

import dataclasses
from fractions import Fraction

import jax
import numpy as np

from ppseg_jax import data, evaluate
from ppseg_jax.encryption import canonical, private, release
from ppseg_jax.encryption.keys import EVAL, TRAIN
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


def noisy(**private):
  """A config whose images are released with noise."""
  fields = {"pixels": 2, "epsilon": 1.5, **private}
  return tiny_config(**{f"private__{name}": x for name, x in fields.items()})


def test_an_image_is_released_once_by_the_budget_of_the_config():
  config, image = noisy(groups=4), photo(32, 48)
  let_out = keys.releases(config, config.data, TRAIN)
  first = let_out(3, image)
  np.testing.assert_array_equal(let_out(3, image), first)
  assert keys.budget_of(config.private) == private.Budget(
      2, epsilon=Fraction(3, 2)
  )
  for other in (
      let_out(4, image),
      keys.releases(config, config.data, EVAL)(3, image),
      keys.releases(noisy(groups=4, epsilon=1.4), config.data, TRAIN)(3, image),
  ):
    assert (other != first).any()
  histogram = keys.releases(noisy(bits=1), config.data, TRAIN)(3, image)
  assert set(np.unique(histogram)) == {64, 192}
  plain = tiny_config()
  assert keys.releases(plain, plain.data, TRAIN) is None


def test_other_noise_has_other_keys():
  hashes = [keys.of_training(config).images for config in
            (tiny_config(), noisy(), noisy(epsilon=1.0), noisy(groups=4),
             noisy(bits=2))]
  assert len(set(hashes)) == 5


def test_more_images_are_others_under_other_keys():
  hashes = []
  for more in ("", "streets", "camvid=/data/camvid"):
    config = tiny_config()
    config.data.more = more
    hashes.append(keys.of_training(config).images)
  assert len(set(hashes)) == 3


def test_training_and_test_read_what_was_released():
  config = noisy()
  plain = data.load(config.data, "val")[1]
  read = evaluate.source_of(config, "val")[1]
  let_out = keys.releases(config, config.data, EVAL)
  np.testing.assert_array_equal(read[0], let_out(1, plain[0]))
  np.testing.assert_array_equal(read[1], plain[1])
  assert not evaluate.shows_plain(config)
