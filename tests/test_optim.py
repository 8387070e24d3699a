"""Rates, decay, schedules and averages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax import config as config_checks
from ppseg_jax import optim
from ppseg_jax.configs import setr_enc


def test_head_and_decay_and_schedule_do_what_the_config_says():
  config = setr_enc.get_config().optim
  config.update(name="sgd", lr=0.1, schedule="poly", warmup=0, momentum=0.0,
                weight_decay=0.5, head_lr=10.0, clip=0.0)
  optimizer = optim.make_optimizer(config, 10)
  params = {"encoder": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
            "head": {"bias": jnp.ones(2)}}
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(zero, optimizer.init(params), params)
  np.testing.assert_allclose(updates["encoder"]["kernel"], -0.05)
  np.testing.assert_allclose(updates["encoder"]["bias"], 0)
  ones = jax.tree.map(jnp.ones_like, params)
  updates, _ = optimizer.update(ones, optimizer.init(params), params)
  np.testing.assert_allclose(updates["encoder"]["bias"], -0.1)
  np.testing.assert_allclose(updates["head"]["bias"], -1.0)
  schedule = optim.make_schedule(config, 10)
  assert float(schedule(5)) == pytest.approx(0.1 * 0.5**0.9)
  config.update(schedule="cosine", warmup=4)
  warm = optim.make_schedule(config, 10)
  assert float(warm(0)) == 0 and float(warm(4)) == pytest.approx(0.1)


def test_rates_fall_from_layer_to_layer_and_only_kernels_decay():
  leaf = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones((3, 2))}
  params = {
      "encoder": {"embed": {"linear": leaf}, "pos_embed": jnp.ones((2, 2, 3)),
                  "class_token": jnp.ones((1, 3)),
                  **{f"block{i}": {"qkv": leaf} for i in range(12)},
                  "norm": {"scale": jnp.ones(2)}},
      "head": {"conv1": leaf},
  }
  rates = optim.rates(params, head_lr=10.0, layer_decay=0.5)
  encoder = rates["encoder"]
  assert rates["head"]["conv1"]["kernel"] == 10.0
  assert encoder["norm"]["scale"] == 1.0
  assert encoder["block11"]["qkv"]["bias"] == 0.5
  assert encoder["block2"]["qkv"]["kernel"] == 0.5**10
  assert encoder["pos_embed"] == encoder["class_token"] == 0.5**13
  assert encoder["embed"]["linear"]["kernel"] == 0.5**13

  config = setr_enc.get_config().optim
  config.update(warmup=0, lr=1.0, weight_decay=0.1, layer_decay=0.5, clip=0.0)
  optimizer = optim.make_optimizer(config, 10)
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(zero, optimizer.init(params), params)
  for path, update in jax.tree_util.tree_leaves_with_path(updates):
    assert (np.abs(update).max() > 0) == (path[-1].key == "kernel"), path
  np.testing.assert_allclose(
      updates["encoder"]["block11"]["qkv"]["kernel"], -0.05, rtol=1e-6
  )


def test_the_average_forgets_where_it_began_and_then_decays_as_told():
  average = {"w": jnp.asarray(123.0)}
  average = optim.averaged(average, {"w": jnp.asarray(2.0)}, 0.9, 0)
  assert float(average["w"]) == 2.0
  average = optim.averaged(average, {"w": jnp.asarray(3.0)}, 0.9, 10)
  assert float(average["w"]) == pytest.approx(2.5)
  average = optim.averaged(average, {"w": jnp.asarray(0.0)}, 0.9, 1000)
  assert float(average["w"]) == pytest.approx(2.25)


def test_recipes_for_cityscapes_are_complete():
  sgd = config_checks.resolve(setr_enc.get_config("cityscapes"))
  assert (sgd.steps, sgd.batch_size, sgd.optim.lr, sgd.optim.momentum,
          sgd.optim.power, sgd.optim.head_lr, sgd.eval.stride) == (
              80_000, 8, 0.01, 0.9, 0.9, 10.0, 512)
  schedule = optim.make_schedule(sgd.optim, sgd.steps)
  assert float(schedule(0)) == pytest.approx(0.01)
  assert float(schedule(80_000)) == pytest.approx(1e-4)
  adamw = config_checks.resolve(setr_enc.get_config("cityscapes_adamw"))
  assert adamw.data == sgd.data and adamw.optim.layer_decay < 1
  optim.make_optimizer(adamw.optim, adamw.steps)
