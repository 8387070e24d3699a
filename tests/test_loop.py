"""Losses, optimizer, accumulation, averaging and sliding evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from configs import setr_enc
from ppseg_jax import config as config_checks
from ppseg_jax import evaluate, metrics, optim, sharding, train, trained
from ppseg_jax.data.labels import CITYSCAPES, VOID
from ppseg_jax.errors import UserError
from ppseg_jax.losses import cross_entropy, hard_pixels, pixel_weights
from ppseg_jax.models.vit import SIZES, Size
from tests.helpers import photo

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


@pytest.fixture
def mini(monkeypatch):
  """A size that compiles in a second, in the place of `demo`."""
  monkeypatch.setitem(SIZES, "demo", Size(32, 4, 2))


def tiny(**fields):
  """A resolved config on 32x48 images, SGD, with fields like model__norm."""
  config = setr_enc.get_config()
  config.data.height, config.data.width, config.batch_size = 32, 48, 4
  config.optim.update(name="sgd", lr=0.1, warmup=0, weight_decay=0.0, clip=0.0)
  config.model.update(norm="group", aux=True)
  for name, value in fields.items():
    *sections, last = name.split("__")
    section = config
    for part in sections:
      section = section[part]
    section[last] = value
  return config_checks.resolve(config)


def batch_of(n=4):
  images = np.stack([photo(32, 48, seed) for seed in range(n)])
  labels = (images[..., 0] // 64).astype(np.uint8)
  for i in range(n):  # parts with different numbers of counted pixels
    labels[i, : 4 + 6 * i] = VOID
  return {"image": images, "label": labels,
          "index": np.arange(n, dtype=np.int32),
          "epoch": np.zeros(n, np.int32)}


def steps_of(config, n=1):
  """(model, losses, state) after n steps on one batch."""
  model = train.make_model(config, 19)
  optimizer = optim.make_optimizer(config.optim, 100)
  state = jax.jit(train.make_init(config, model, optimizer))()
  update = jax.jit(train.make_update(config, model, optimizer))
  losses = []
  for _ in range(n):
    state, loss = update(state, batch_of())
    losses.append(float(loss))
  return model, losses, state


def test_accumulating_takes_the_same_step_as_the_whole_batch(mini):
  fields = {"loss__smoothing": 0.1, "loss__ohem": 0.06, "loss__ohem_kept": 99,
            "loss__class_weights": tuple(np.linspace(0.5, 2, 19).tolist()),
            "optim__ema": 0.9}
  _, (loss,), whole = steps_of(tiny(**fields))
  _, (again,), parts = steps_of(tiny(accumulate=2, **fields))
  assert again == pytest.approx(loss, rel=1e-5)
  assert jax.tree.structure(whole) == jax.tree.structure(parts)
  start = jax.jit(train.make_init(
      tiny(**fields), train.make_model(tiny(), 19),
      optim.make_optimizer(tiny().optim, 100),
  ))()
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(),
                       whole["params"], start["params"])
  assert max(jax.tree.leaves(moved)) > 1e-3
  for one, two in zip(jax.tree.leaves(whole["params"]),
                      jax.tree.leaves(parts["params"]), strict=True):
    np.testing.assert_allclose(two, one, atol=2e-6)
  assert train.variables_of(parts)["params"] is parts["ema"]["params"]


def test_accumulating_under_batch_norm_carries_the_statistics_on(mini):
  config = tiny(accumulate=2, model__norm="batch", model__aux=False)
  _, losses, state = steps_of(config, 6)
  assert losses[-1] < losses[0]
  leaves = jax.tree.leaves(state["batch_stats"])
  assert leaves and all(np.isfinite(leaf).all() for leaf in leaves)
  assert any(np.abs(leaf - 1).max() > 0.01 for leaf in leaves)


@pytest.mark.parametrize("accumulate, devices, said", [
    (1, 1, None), (2, 1, None), (3, 1, "multiple of the 1 devices"),
    (2, 4, "accumulate=2; choose 8"),
])
def test_a_batch_that_does_not_divide_is_refused(accumulate, devices, said):
  class FakeMesh:
    shape = {"data": devices, "fsdp": 1}

  config = tiny()
  if said is None:
    train.check_batch(config, FakeMesh, accumulate)
    return
  with pytest.raises(UserError, match=said):
    train.check_batch(config, FakeMesh, accumulate)


@pytest.mark.parametrize("fields, said", [
    ({"loss__class_weights": (1.0, -1.0)}, "class_weights"),
    ({"loss__smoothing": 1.0}, "loss.smoothing"),
    ({"loss__ohem": 1.5}, "loss.ohem"),
    ({"optim__ema": 1.0}, "optim.ema"),
    ({"optim__layer_decay": 0.0}, "layer_decay"),
    ({"accumulate": 0}, "accumulate"),
    ({"eval__windows": 0}, "eval.windows"),
    ({"eval__stride": 12}, "block grid"),
])
def test_fields_of_the_recipe_are_checked(fields, said):
  with pytest.raises(UserError, match=said):
    tiny(**fields)


@pytest.mark.parametrize("fields, said", [
    ({"scheme": "aso2024"}, "use eval.whole=True"),
    ({"scheme": "ele", "key_plan": "shared", "eval__whole": True},
     "not encrypted alike"),
    ({"eval__adapt": True, "model__patch": 16}, "make them the same"),
    ({"eval__adapt": True, "eval__scheme": "horio2024",
      "data__crop_width": 0, "eval__stride": 0}, "come back in another order"),
    ({"model__pos_embed": "none", "model__stem": 2}, "use model.stem=0"),
    ({"loss__ohem": 0.7}, "loss.ohem has no effect"),
])
def test_what_cannot_be_meant_is_refused(fields, said):
  base = {"data__crop_width": 32, "eval__stride": 16, "model__stem": 0,
          "model__form": "plain", "data__height": 32, "data__width": 48}
  with pytest.raises(UserError, match=said):
    tiny(**(base | fields))


def test_class_weights_must_be_one_a_class():
  with pytest.raises(UserError, match="2 weights.*19 classes.*bicycle"):
    train.check_classes(tiny(loss__class_weights=(1.0, 2.0)), CITYSCAPES)
  train.check_classes(tiny(), CITYSCAPES)


class Ramp:
  """Stands for SETR: logits of a pixel and its place in a window."""

  num_classes = 3

  @staticmethod
  def apply(variables, images):
    x = images[..., :1].astype(jnp.float32)
    place = jnp.arange(images.shape[1])[:, None, None] / images.shape[1]
    return jnp.concatenate([x * place, 255 - x, x * 0 + 99], -1) * variables


@pytest.mark.parametrize("at_once", [1, 3, 8, 100])
def test_sliding_windows_agree_with_a_plain_loop(at_once):
  """1024x2048 with windows of 768 and stride 512, at a sixteenth."""
  images = np.stack([photo(64, 128, seed) for seed in range(2)])
  predict = jax.jit(functools.partial(
      evaluate.predict_logits, Ramp, window=(48, 48), stride=32,
      at_once=at_once,
  ))
  total, count = np.zeros((2, 64, 128, 3)), np.zeros((64, 128, 1))
  corners = [(t, left) for t in (0, 16) for left in (0, 32, 64, 80)]
  for top, left in corners:
    at = np.s_[top : top + 48, left : left + 48]
    total[(slice(None), *at)] += Ramp.apply(2.0, images[(slice(None), *at)])
    count[at] += 1
  got = predict(variables=2.0, images=images)
  np.testing.assert_allclose(got, total / count, rtol=1e-4, atol=1e-3)


def test_memory_of_sliding_does_not_grow_with_the_number_of_windows():
  image = jax.ShapeDtypeStruct((1, 256, 512, 3), jnp.uint8)

  predict = jax.jit(functools.partial(
      evaluate.predict_logits, Ramp, window=(128, 128), stride=8
  ))
  compiled = predict.lower(variables=2.0, images=image).compile()
  logits = 256 * 512 * 3 * 4  # bytes
  # Of 833 windows, beside the result.
  assert compiled.memory_analysis().temp_size_in_bytes < logits


class Stills:
  """Ten images, with labels from their colours and no void pixel."""

  label_space = CITYSCAPES

  def __len__(self):
    return 10

  def __getitem__(self, index):
    image = photo(32, 48, index)
    return image, (image[..., 0] % 19).astype(np.uint8)


@pytest.mark.parametrize("whole", [False, True])
def test_every_pixel_of_a_split_counts_once_in_batches_that_do_not_divide(
    whole, mini
):
  config = tiny(data__crop_width=32, eval__stride=16, eval__whole=whole,
                batch_size=8, model__aux=False, model__stem=0)
  model = train.make_model(config, 19)
  variables = jax.jit(model.init)(
      jax.random.key(0), np.zeros((1, 32, 32, 3), np.uint8)
  )
  mesh = sharding.make_mesh(config.mesh)
  step = evaluate.make_eval_step(config, model, mesh, train.key_root(config))
  result = evaluate.evaluate(config, step, variables, Stills(), mesh)
  assert result["pixels"] == 10 * 32 * 48 and result["images"] == 10
  window = (32, 48) if whole else (32, 32)
  expected = np.zeros((19, 19), np.int64)
  predict = jax.jit(lambda x: evaluate.predict_logits(
      model, variables, x, window, 16
  ).argmax(-1))
  for image, labels in (Stills()[i] for i in range(10)):
    np.add.at(expected, (labels, np.asarray(predict(image[None]))[0]), 1)
  # blockwise and its canonical form: encryption changes no prediction
  np.testing.assert_array_equal(result["confusion"], expected)
  assert result["miou"] == metrics.summarise(
      expected, CITYSCAPES.names)["miou"]


@pytest.mark.parametrize("fields, said", [
    ({"scheme": "blockwise", "block": "8", "size": "41x29"}, None),
    ({"scheme": "independent", "block": "8", "size": "41x29"},
     "by 'independent', but this model reads blockwise"),
    ({"scheme": "blockwise", "block": "16", "size": "40x29"}, "--block=8"),
    ({"scheme": "blockwise", "block": "8", "size": "49x29"}, "another size"),
    ({"scheme": "blockwise", "block": "8", "size": "0x29"}, "another size"),
    ({"scheme": "blockwise", "block": "8"}, "damaged text"),
])
def test_a_ciphertext_must_fit_the_model_and_names_its_true_size(
    fields, said, tmp_path
):
  info = PngInfo()
  for name, value in {"format": "1", **fields}.items():
    info.add_text(f"ppseg_jax.{name}", value)
  path = tmp_path / "cipher.png"
  Image.fromarray(photo(32, 48)).save(path, pnginfo=info)
  if said is None:
    image, size = trained._read(tiny(), path)
    assert image.shape == (32, 48, 3) and size == (29, 41)
    Image.fromarray(photo(32, 48)).save(path)
    assert trained._read(tiny(), path)[1] == (32, 48)
    return
  with pytest.raises(UserError, match=said):
    trained._read(tiny(), path)


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
