"""Losses: what counts, how much, and what does not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppseg_jax import config as config_checks
from ppseg_jax import optim, train
from ppseg_jax.configs import setr_enc
from ppseg_jax.data.labels import VOID
from ppseg_jax.encryption.keys import derive, key_from_seed
from ppseg_jax.losses import cross_entropy, hard_pixels, pixel_weights
from ppseg_jax.runs import keys
from ppseg_jax.runs import model as models
from ppseg_jax.runs.start import make_init
from tests.helpers import photo, random_variables

K = 4


def random_case(seed=0, batch=4, void=0.3):
  """Logits, float32 [B, 5, 6, K], and labels, uint8 [B, 5, 6]."""
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(batch, 5, 6, K)).astype(np.float32) * 3
  labels = rng.integers(0, K, (batch, 5, 6)).astype(np.uint8)
  labels[rng.random(labels.shape) < void] = VOID
  return logits, labels


def log_softmax(logits):
  logits = logits.astype(np.float64)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_class_weights_and_smoothing_follow_their_definitions():
  logits, labels = random_case()
  weights, smoothing = (0.5, 2.0, 0.0, 1.0), 0.2
  logp, total, norm = log_softmax(logits), 0.0, 0.0
  for place in np.argwhere(labels != VOID):
    label = labels[tuple(place)]
    target = np.full(K, smoothing / K)
    target[label] += 1 - smoothing
    total += weights[label] * -(target * logp[tuple(place)]).sum()
    norm += weights[label]
  got = cross_entropy(
      logits, labels, class_weights=weights, smoothing=smoothing
  )
  assert float(got) == pytest.approx(total / norm, rel=1e-5)


@pytest.mark.parametrize("kept", [0, 7, 1000])
def test_ohem_keeps_what_is_below_the_threshold_and_enough_of_each_image(kept):
  logits, labels = random_case()
  logp, threshold = log_softmax(logits), 0.05
  expected = np.zeros(labels.shape, bool)
  for i, image in enumerate(labels):
    at = np.argwhere(image != VOID)
    p = [np.exp(logp[i, r, c, image[r, c]]) for r, c in at]
    hardest = np.argsort(p)[: max(kept, int((np.array(p) < threshold).sum()))]
    expected[i][tuple(at[hardest].T)] = True
  one_hot = jax.nn.one_hot(labels, K)
  per_pixel = -(logp * one_hot).sum(-1)
  chosen = hard_pixels(jnp.asarray(per_pixel), labels, threshold, kept)
  np.testing.assert_array_equal(chosen, expected)
  loss = cross_entropy(logits, labels, ohem=threshold, ohem_kept=kept)
  counted = (labels != VOID).sum()
  assert float(loss) == pytest.approx(
      np.where(expected, per_pixel, 0).sum() / counted, rel=1e-5
  )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), void=st.floats(0, 1),
       smoothing=st.sampled_from([0.0, 0.1]), ohem=st.sampled_from([0.0, 0.7]))
def test_losses_of_parts_add_up_to_the_loss_of_the_batch(
    seed, void, smoothing, ohem
):
  logits, labels = random_case(seed, void=void)
  options = {"class_weights": (1.0, 0.2, 3.0, 1.5), "smoothing": smoothing,
             "ohem": ohem, "ohem_kept": 9}
  whole = cross_entropy(logits, labels, **options)
  total = pixel_weights(labels, options["class_weights"]).sum()
  parts = [cross_entropy(logits[i : i + 1], labels[i : i + 1], total=total,
                         **options) for i in range(len(labels))]
  assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-4, abs=1e-6)


def test_a_void_pixel_changes_neither_loss_nor_gradient():
  logits, labels = random_case()
  options = {"smoothing": 0.1, "ohem": 0.7, "ohem_kept": 5}
  loss = functools.partial(cross_entropy, labels=labels, **options)
  spoilt = np.where((labels == VOID)[..., None], 1e30, logits)
  assert float(loss(spoilt)) == float(loss(logits))
  grads = np.asarray(jax.grad(loss)(spoilt))
  assert (grads[labels == VOID] == 0).all() and np.isfinite(grads).all()
  assert np.abs(grads).max() > 0


def test_cross_entropy_is_the_mean_over_counted_pixels():
  logits = np.random.default_rng(0).normal(size=(1, 2, 2, 3)).astype(np.float32)
  labels = np.array([[[0, 2], [VOID, 1]]], np.uint8)
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  expected = -np.log([p[0, 0, 0, 0], p[0, 0, 1, 2], p[0, 1, 1, 1]]).mean()
  assert float(cross_entropy(logits, labels)) == pytest.approx(expected)
  assert float(cross_entropy(logits, np.full_like(labels, VOID))) == 0.0


def test_auxiliary_losses_count_by_their_weight_and_steps_drop_differently(
    mini
):
  config = setr_enc.get_config()
  config.data.height, config.data.width, config.scheme = 32, 32, "plain"
  config.model.update(norm="group", aux=True, aux_weight=0.25, dropout=0.5)
  config = config_checks.resolve(config)
  model = models.make(config, 19)
  optimizer = optim.make_optimizer(config.optim, 100)
  image = photo(32, 32)[None]
  batch = {"image": image, "label": image[..., 0] // 64,
           "index": np.zeros(1, np.int32), "epoch": np.zeros(1, np.int32)}
  state = jax.eval_shape(make_init(config, model, optimizer))
  update = train.make_update(config, model, optimizer)
  assert state["batch_stats"] == {}
  assert jax.eval_shape(update, state, batch)[0]["batch_stats"] == {}
  state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
  state["params"] = random_variables(model, 32, 32)["params"]

  @jax.jit
  def both(state):
    key = derive(key_from_seed(config.seed), keys.DROPOUT, state["step"])
    (logits, aux), _ = model.apply(
        {"params": state["params"]}, image, train=True,
        mutable=["batch_stats"], rngs={"dropout": key},
    )
    entropy = lambda logits: cross_entropy(logits, batch["label"])
    expected = entropy(logits) + 0.25 * sum(map(entropy, aux))
    return update(state, batch)[1]["loss"], expected

  first, expected = map(float, both(state))
  assert first == pytest.approx(expected, rel=1e-5)
  later, expected = map(float, both({**state, "step": np.int32(1)}))
  assert later == pytest.approx(expected, rel=1e-5)
  assert abs(later - first) > 1e-4
