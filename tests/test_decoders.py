"""Variants of SETR: sizes, decoders, auxiliary heads, norms, dropping."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import setr_enc
from ppseg_jax import config as config_checks
from ppseg_jax import losses, optim, train
from ppseg_jax.encryption.keys import derive, key_from_seed
from ppseg_jax.errors import UserError
from ppseg_jax.models.decoders import DECODERS
from ppseg_jax.models.setr import SETR
from ppseg_jax.models.vit import SIZES, Block
from ppseg_jax.runs import keys
from ppseg_jax.runs import model as models
from ppseg_jax.runs.start import make_init
from tests.helpers import ROOT, photo, random_variables


def abstract(model, height=32, width=48):
  shape = jax.ShapeDtypeStruct((2, height, width, 3), jnp.uint8)
  return jax.eval_shape(model.init, jax.random.key(0), shape), shape


def parameters(variables):
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


# Zheng et al., CVPR 2021, table of model sizes, in millions. There PUP is
# counted with its auxiliary heads (9.5 M of 3x3 convs in SETR-PUP-L), Naive
# without; those of MLA weigh nothing.
PUBLISHED = {
    ("large", "naive"): 305.67, ("large", "mla"): 310.57,
    ("large", "pup"): 318.31, ("base", "naive"): 87.69,
    ("base", "mla"): 92.59, ("base", "pup"): 97.64,
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_parameter_counts_are_those_of_the_readme_and_the_paper(size, decoder):
  model = SETR(19, size, 16, "plain", 16, (48, 48), decoder=decoder,
               aux=decoder != "naive")
  millions = parameters(abstract(model, 768, 768)[0]) / 1e6
  readme = (ROOT / "README.md").read_text()
  counts = re.search(rf"^\| `{size}` \|[^|]*\|(.*)\|$", readme, re.MULTILINE)
  column = ("naive", "pup", "mla").index(decoder)
  assert f"{millions:.2f}" == counts[1].split("|")[column].strip()
  if (size, decoder) in PUBLISHED:
    assert millions == pytest.approx(PUBLISHED[size, decoder], rel=0.005)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_its_tokens_and_width(size):
  model = SETR(19, size, 16, "plain", 16, (2, 3), class_token=True)
  encoder = abstract(model)[0]["params"]["encoder"]
  width, depth, _, distilled, _ = SIZES[size]
  assert encoder["class_token"].shape == (1, width)
  assert ("distillation_token" in encoder) == distilled
  assert f"block{depth - 1}" in encoder and f"block{depth}" not in encoder


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("patch", [8, 16])
@pytest.mark.parametrize("decoder, aux", [("naive", 3), ("pup", 4), ("mla", 4)])
def test_logits_and_auxiliary_logits_have_the_size_of_the_image(
    decoder, aux, patch, norm
):
  model = SETR(19, "demo", patch, "plain", patch, (32 // patch, 48 // patch),
               decoder=decoder, aux=True, norm=norm, dtype=jnp.bfloat16)
  variables, shape = abstract(model)
  assert ("batch_stats" in variables) == (norm == "batch")
  (logits, extra), changed = jax.eval_shape(
      lambda variables, images: model.apply(
          variables, images, train=True, mutable=["batch_stats"]
      ), variables, shape,
  )
  assert len(extra) == aux
  for x in (logits, *extra, jax.eval_shape(model.apply, variables, shape)):
    assert x.shape == (2, 32, 48, 19) and x.dtype == jnp.float32
  old = variables.get("batch_stats", {})
  assert jax.tree.structure(changed.get("batch_stats", {})) == (
      jax.tree.structure(old)
  )
  bare, _ = abstract(model.clone(aux=False))
  assert parameters(bare) < parameters(variables)


@pytest.mark.parametrize("decoder", DECODERS)
def test_logits_for_each_patch_or_a_sentence(decoder):
  model = SETR(19, "demo", 8, "plain", 8, (4, 6), decoder=decoder)
  image = photo(32, 48)[None]
  if not DECODERS[decoder].per_token:
    with pytest.raises(UserError, match="model.decoder=naive"):
      model.apply({}, image, upsample=False)
    return
  variables = random_variables(model, 32, 48)
  small, whole = jax.jit(lambda variables, image: (
      model.apply(variables, image, upsample=False),
      model.apply(variables, image),
  ))(variables, image)
  assert small.shape == (1, 4, 6, 19)
  np.testing.assert_allclose(
      jax.image.resize(small, whole.shape, "bilinear"), whole, atol=1e-5
  )


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_without_positions_the_order_of_blocks_changes_nothing_else(norm):
  """What hiding the layout rests on: logits move with their blocks."""
  model = SETR(19, "demo", 8, "plain", 8, (2, 3), pos_embed="none", norm=norm,
               class_token=True)
  image = photo(16, 24)
  variables = random_variables(model, 16, 24)
  blocks = image.reshape(2, 8, 3, 8, 3).swapaxes(1, 2).reshape(6, 8, 8, 3)
  order = np.random.default_rng(0).permutation(6)
  moved = blocks[order].reshape(2, 3, 8, 8, 3).swapaxes(1, 2)
  logits = jax.jit(
      lambda images: model.apply(variables, images, upsample=False)
  )(np.stack([image, moved.reshape(16, 24, 3)]))
  plain, mixed = logits.reshape(2, 6, 19)
  assert np.abs(plain - mixed).max() > 0.1
  np.testing.assert_allclose(mixed, plain[order], atol=1e-4)


def test_drop_path_skips_whole_branches_of_single_samples():
  x = jax.random.normal(jax.random.key(0), (64, 3, 8))
  block = lambda rate: Block(2, jnp.float32, True, 0.0, rate, train=True)
  params = block(0.0).init(jax.random.key(1), x)
  kept = block(0.0).apply(params, x)
  assert (jnp.abs(kept - x).max((1, 2)) > 1e-3).all()
  run = jax.jit(
      lambda seed: block(0.5).apply(
          params, x, rngs={"dropout": jax.random.key(seed)}
      )
  )
  still = np.asarray((run(0) == x).all((1, 2)))
  assert 4 <= still.sum() <= 30  # a quarter loses both branches
  assert (still != np.asarray((run(1) == x).all((1, 2)))).any()
  np.testing.assert_array_equal(run(0), run(0))


def test_auxiliary_losses_count_by_their_weight_and_steps_drop_differently():
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
    entropy = lambda logits: losses.cross_entropy(logits, batch["label"])
    expected = entropy(logits) + 0.25 * sum(map(entropy, aux))
    return update(state, batch)[1], expected

  first, expected = map(float, both(state))
  assert first == pytest.approx(expected, rel=1e-5)
  later, expected = map(float, both({**state, "step": np.int32(1)}))
  assert later == pytest.approx(expected, rel=1e-5)
  assert abs(later - first) > 1e-4


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from ml_collections import ConfigDict
from ppseg_jax import sharding
from ppseg_jax.models.setr import SETR
from tests.helpers import photo

model = SETR(19, "demo", 16, "plain", 16, (2, 2), decoder="pup", aux=True)
images = np.stack([photo(32, 32, seed) for seed in range(8)])
init = lambda: model.init(jax.random.key(0), images[:1])
mesh = sharding.make_mesh(ConfigDict(dict(data=4, fsdp=2, model=1)))
abstract = sharding.abstract_on(mesh, init)
head = abstract["params"]["head"]
for name in ("conv0", "conv3", "aux0_conv0"):
  assert "fsdp" in head[name]["kernel"].sharding.spec, name

def statistics(variables, images):
  _, changed = model.apply(
      variables, images, train=True, mutable=["batch_stats"]
  )
  return changed["batch_stats"]

variables = jax.jit(init)()
one = jax.jit(statistics)(variables, images)
places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
many = jax.jit(statistics)(
    jax.device_put(variables, places),
    jax.device_put(images, sharding.batch_sharding(mesh)),
)
jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    one, many,
)
# The statistics of a part of the batch would be others.
part = jax.jit(statistics)(variables, images[:1])
assert np.abs(one["head"]["conv0_norm"]["mean"]
              - part["head"]["conv0_norm"]["mean"]).max() > 1e-3
print("equal")
"""


def test_batch_statistics_are_those_of_the_global_batch_on_eight_devices():
  env = dict(os.environ,
             XLA_FLAGS="--xla_force_host_platform_device_count=8")
  done = subprocess.run(
      [sys.executable, "-c", SHARDED], cwd=ROOT, env=env, text=True,
      capture_output=True, timeout=600,
  )
  assert done.stdout.strip() == "equal", done.stderr
