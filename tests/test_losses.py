"""Losses: what each pixel, class and auxiliary head counts."""

import jax
import numpy as np
import pytest

from configs import setr_enc
from ppseg_jax import config as config_checks
from ppseg_jax import losses, optim, train
from ppseg_jax.data.labels import VOID
from ppseg_jax.encryption.keys import derive, key_from_seed
from tests.helpers import photo, random_variables


def test_cross_entropy_is_the_mean_over_counted_pixels():
  logits = np.random.default_rng(0).normal(size=(1, 2, 2, 3)).astype(np.float32)
  labels = np.array([[[0, 2], [VOID, 1]]], np.uint8)
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  expected = -np.log([p[0, 0, 0, 0], p[0, 0, 1, 2], p[0, 1, 1, 1]]).mean()
  assert float(losses.cross_entropy(logits, labels)) == pytest.approx(expected)
  assert float(losses.cross_entropy(logits, np.full_like(labels, VOID))) == 0.0


def test_auxiliary_losses_count_by_their_weight_and_steps_drop_differently():
  config = setr_enc.get_config()
  config.data.height, config.data.width, config.scheme = 32, 32, "plain"
  config.model.update(norm="group", aux=True, aux_weight=0.25, dropout=0.5)
  config = config_checks.resolve(config)
  model = train.make_model(config, 19)
  optimizer = optim.make_optimizer(config.optim, 100)
  image = photo(32, 32)[None]
  batch = {"image": image, "label": image[..., 0] // 64,
           "index": np.zeros(1, np.int32), "epoch": np.zeros(1, np.int32)}
  state = jax.eval_shape(train.make_init(config, model, optimizer))
  update = train.make_update(config, model, optimizer)
  assert state["batch_stats"] == {}
  assert jax.eval_shape(update, state, batch)[0]["batch_stats"] == {}
  state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
  state["params"] = random_variables(model, 32, 32)["params"]

  @jax.jit
  def both(state):
    key = derive(key_from_seed(config.seed), train._DROPOUT, state["step"])
    (logits, aux), _ = model.apply(
        {"params": state["params"]}, image, train=True,
        mutable=["batch_stats"], rngs={"dropout": key},
    )
    entropy = lambda logits: losses.cross_entropy(logits, batch["label"])
    expected = entropy(logits) + 0.25 * sum(map(entropy, aux))
    return update(state, batch)[1], expected

  first, expected = map(float, both(state))
  assert first == pytest.approx(expected, rel=1e-5)
  later, expected = map(float, both({**state, "step": np.int32(1)}))
  assert later == pytest.approx(expected, rel=1e-5)
  assert abs(later - first) > 1e-4
