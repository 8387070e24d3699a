"""Keys: 128 bits each, from the operating system or derived from a seed.

A client makes its keys with `fresh_keys`. An experiment that must repeat
derives them from its seed with `image_keys`; such keys protect nothing, since
whoever knows the seed knows them all.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption.schemes import KEY_PLANS
from ppseg_jax.encryption.threefry import DERIVE, threefry
from ppseg_jax.errors import UserError

# The container of every key. No other is taken: jax's default, threefry2x32,
# has 64 bits, too few for privacy, and under rbg a vmap over keys uses the
# first key for all.
IMPL = "threefry4x32"

# What images are encrypted for: training, a test, a test on the part of the
# training split that is left out, fitting the client's refinement to training
# images, and choosing among refinements by them.
TRAIN, EVAL, LEFT_OUT, REFINE, CHOOSE = range(5)

_SHARED, _CLIENT, _IMAGE, _EPOCH = range(4)


def fresh_keys(n: int) -> jax.Array:
  """n keys, typed `threefry4x32` [n], of 128 bits each from OS entropy."""
  words = np.frombuffer(os.urandom(16 * n), np.uint32).reshape(n, 4)
  return jax.random.wrap_key_data(words, impl=IMPL)


def key_from_seed(seed: int) -> jax.Array:
  """A key, typed `threefry4x32` [], for an experiment; the seed has 64 bits.

  Raises UserError for a seed outside 0 to 2**64 - 1: `jax.random.key` would
  silently drop its upper half.
  """
  if not 0 <= seed < 2**64:
    raise UserError(f"seed={seed} must be in 0 to 2**64 - 1.")
  words = np.array([seed & 0xFFFFFFFF, seed >> 32, 0, 0], np.uint32)
  return jax.random.wrap_key_data(words, impl=IMPL)


def derive(key: jax.Array, *data: jax.typing.ArrayLike) -> jax.Array:
  """Folds each of `data`, uint32 [], into the key, one after another.

  The new key is Threefry's block of counter (item, 0, 0, DERIVE).
  """
  words = jax.random.key_data(key)
  for item in data:
    item = jnp.asarray(item).astype(jnp.uint32)
    words = jnp.stack(threefry(
        words, (item, jnp.uint32(0), jnp.uint32(0), jnp.uint32(DERIVE))
    ))
  return jax.random.wrap_key_data(words, impl=IMPL)


def image_keys(
    plan: str,
    root: jax.Array,
    index: jax.Array,
    epoch: jax.Array,
    split: int,
    clients: int,
) -> jax.Array:
  """The keys of a batch, a function of nothing but its arguments.

  Batch order, device count and restarts therefore do not change an image's key.

  Args:
    plan: `shared`: one key for every image of every split; `client`: image i
      belongs to client i mod `clients`, and no client is in two splits;
      `image`: one key an image for its life; `epoch`: a fresh one an epoch.
    root: typed key [] of the experiment.
    index: int32 [B], the images' indices in their split.
    epoch: int32 [B], the epoch each image is read in.
    split: what for, as TRAIN.
    clients: number of clients a split, for the plan `client`.

  Returns:
    Typed keys [B].

  Raises:
    UserError: for an unknown plan.
  """
  def key(index: jax.Array, epoch: jax.Array) -> jax.Array:
    match plan:
      case "shared":
        return derive(root, _SHARED)
      case "client":
        return derive(root, _CLIENT, split, index % clients)
      case "image":
        return derive(root, _IMAGE, split, index)
      case "epoch":
        return derive(root, _EPOCH, split, index, epoch)
    raise UserError(f"key_plan='{plan}' is none of {', '.join(KEY_PLANS)}.")

  return jax.vmap(key)(jnp.asarray(index), jnp.asarray(epoch))
