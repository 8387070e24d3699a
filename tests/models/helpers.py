"""What tests of models on encrypted images need."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption import encrypt
from tests.helpers import make_setr

BLOCK = 8
TOLERANCE = 5e-5  # of logits of size 1: float32 sums in another order


@functools.cache
def make(grid=(6, 8), **fields):
  """A SETR with random values in every leaf, as if it had been trained."""
  model = make_setr(grid=grid, **fields)
  image = jax.ShapeDtypeStruct((1, grid[0] * 8, grid[1] * 8, 3), jnp.uint8)
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)
  rng = np.random.default_rng(0)

  def leaf(path, shape):
    name, shape = path[-1].key, shape.shape
    if name in ("scale", "var"):
      values = rng.uniform(0.5, 1.5, shape)
    elif name == "kernel":
      gain = 6 if path[-2].key == "linear" else 1.5
      values = rng.normal(0, gain * np.prod(shape[:-1]) ** -0.5, shape)
    else:
      values = rng.normal(0, 0.2, shape)
    return values.astype(np.float32)

  return model, jax.tree_util.tree_map_with_path(leaf, shapes)


@functools.partial(jax.jit, static_argnums=(0, 3))
def run(model, variables, images, upsample=True):
  return model.apply(variables, images, upsample=upsample)


def picture(height, width, seed=0):
  """Coloured squares and strong noise: every block is unlike the others."""
  rng = np.random.default_rng(seed)
  squares = rng.integers(0, 256, (height // BLOCK, width // BLOCK, 3))
  noise = rng.normal(0, 60, (height, width, 3))
  image = squares.repeat(BLOCK, 0).repeat(BLOCK, 1) + noise
  return np.clip(image, 0, 255).astype(np.uint8)


def under(scheme, key, *images):
  keys = jnp.broadcast_to(key, (len(images),))
  return np.asarray(encrypt(scheme, keys, np.stack(images), BLOCK))
