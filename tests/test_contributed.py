"""Training on what clients encrypted, beside the same encrypted in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax import optim, train
from ppseg_jax.encryption import encrypt, fresh_keys
from ppseg_jax.encryption.layout import moves_of
from ppseg_jax.runs import model as models
from tests.helpers import photo, random_variables, tiny_config

HIDDEN = "blockwise_hidden"
IMAGES = np.stack([photo(32, 48, seed) for seed in range(4)])
LABELS = (IMAGES[..., 0] // 64).astype(np.uint8)


@pytest.fixture
def step(mini):
  """(config, images, labels) -> measures and new state, compiled once each."""
  compiled = {}

  def call(config, images, labels):
    model = models.make(config, 19)
    optimizer = optim.make_optimizer(config.optim, 100)
    known = str(config)
    if known not in compiled:
      compiled[known] = jax.jit(train.make_update(config, model, optimizer))
    variables = random_variables(model, 32, 48)
    state = {
        "params": variables["params"], "batch_stats": {},
        "opt_state": optimizer.init(variables["params"]), "step": jnp.int32(0),
    }
    return compiled[known](state, {
        "image": np.asarray(images), "label": np.asarray(labels),
        "index": np.arange(4, dtype=np.int32), "epoch": np.zeros(4, np.int32),
        # One of them mirrored, all of them whole.
        "window": np.array([[0, 0, i == 1] for i in range(4)], np.int32),
    })

  return call


@jax.jit
def hidden(keys, images, labels):
  moved = encrypt(moves_of(HIDDEN), keys, labels[..., None], 8)[..., 0]
  return encrypt(HIDDEN, keys, images, 8), moved


def test_contributed_or_encrypted_in_training_is_one_training(step):
  """To the last bit: the canonical form is the same under any key."""
  sent = jax.jit(lambda keys: encrypt("blockwise", keys, IMAGES, 8))(
      fresh_keys(4)
  )
  assert (np.asarray(sent) != IMAGES).mean() > 0.5
  fields = {"model__aux": False}
  here = step(tiny_config(**fields), IMAGES, LABELS)
  there = step(tiny_config(data__name="encrypted", **fields), sent, LABELS)
  assert here[1]["loss"] > 0 and here[1]["grad_norm"] > 0
  jax.tree.map(np.testing.assert_array_equal, here, there)


def test_where_blocks_went_does_not_matter_to_a_model_without_places(step):
  config = tiny_config(
      data__name="encrypted", scheme=HIDDEN, model__aux=False, model__stem=0,
      model__pos_embed="none",
  )
  one, two = (hidden(fresh_keys(4), IMAGES, LABELS) for _ in range(2))
  assert (np.asarray(one[0]) != np.asarray(two[0])).mean() > 0.5
  found = [step(config, *each)[1] for each in (one, two)]
  for name in ("loss", "grad_norm"):
    np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-4)
  astray = step(config, one[0], two[1])[1]  # labels of other blocks
  assert abs(astray["loss"] - found[0]["loss"]) > 1e-3
