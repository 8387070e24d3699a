"""Where parameters lie on the mesh."""

import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from ppseg_jax import sharding
from ppseg_jax.models.decoders import DECODERS
from ppseg_jax.models.embed import EMBEDS
from ppseg_jax.models.vit import SIZES
from ppseg_jax.trees import named_leaves
from tests.helpers import ROOT, make_setr


def on_mesh(shapes, **sizes):
  """named_leaves of a tree of shapes, as they would lie on such a mesh."""
  sizes = {"data": 1, "fsdp": 1, "model": 1} | sizes
  mesh = AbstractMesh(
      tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * 3
  )
  return named_leaves(sharding.abstract_on(mesh, lambda: shapes))


def shapes_of(model, height=32, width=48):
  image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.uint8)
  return jax.eval_shape(model.init, jax.random.key(0), image)


@pytest.mark.parametrize(
    "size", [size for size in SIZES if not SIZES[size].distilled]
)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("embed", EMBEDS)
def test_nothing_large_lies_whole_on_every_device(
    embed, decoder, size, capsys
):
  model = make_setr(patch=16, size=size, decoder=decoder, embed=embed,
                    aux=True, stem=1, class_token=True)
  for name, leaf in on_mesh(shapes_of(model), data=2, fsdp=4).items():
    large = leaf.size * leaf.dtype.itemsize > sharding.SMALL
    assert "fsdp" in leaf.sharding.spec or not large, name
  assert capsys.readouterr().err == ""


def test_a_decoder_of_ones_own_is_cut_whatever_its_layers_are_called(capsys):
  class Own(nn.Module):

    @nn.compact
    def __call__(self, x):
      self.param("queries", nn.initializers.zeros, (100, 256))
      x = nn.Dense(512, name="up")(x)
      return nn.Conv(70, (3, 3), name="anything")(x)

  x = jax.ShapeDtypeStruct((1, 4, 4, 128), jnp.float32)
  shapes = {"head": jax.eval_shape(Own().init, jax.random.key(0), x)["params"]}
  leaves = on_mesh(shapes, fsdp=4, model=2)
  assert {name: leaf.sharding.spec for name, leaf in leaves.items()} == {
      "head/queries": P(None, "fsdp"),
      "head/up/kernel": P(None, "fsdp"), "head/up/bias": P(),
      "head/anything/kernel": P(None, None, "fsdp", None),
      "head/anything/bias": P(),
  }
  on_mesh(shapes, data=3)
  assert capsys.readouterr().err == ""
  on_mesh(shapes, fsdp=7)  # which divides no dimension but that of 70
  said = capsys.readouterr().err
  assert "mesh.fsdp=7 divides no dimension of head/queries, head/up/ke" in said
  assert "anything" not in said


def test_heads_and_mlp_columns_go_over_model():
  leaves = on_mesh(shapes_of(make_setr()), fsdp=2, model=2)
  specs = {name: leaves[f"params/encoder/block0/{name}/kernel"].sharding.spec
           for name in ("qkv", "proj", "up", "down")}
  assert specs == {
      "qkv": P("fsdp", None, "model", None), "proj": P("model", None, "fsdp"),
      "up": P("fsdp", "model"), "down": P("model", "fsdp"),
  }


def test_moments_lie_where_their_parameters_do():
  params = shapes_of(make_setr(decoder="pup"))["params"]
  state = {"params": params, "opt_state": jax.eval_shape(
      optax.scale_by_adam().init, params)}
  leaves = on_mesh(state, data=2, fsdp=2)
  for name, leaf in on_mesh(params, data=2, fsdp=2).items():
    for prefix in ("params", "opt_state/mu", "opt_state/nu"):
      found = leaves[f"{prefix}/{name}"].sharding.spec
      assert found == leaf.sharding.spec, name


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from ml_collections import ConfigDict
from ppseg_jax import sharding
from tests.helpers import make_setr, photo

model = make_setr(patch=16, grid=(2, 2), decoder="pup", aux=True)
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
