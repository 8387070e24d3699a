"""Encryption and decryption of images under a scheme."""

from collections import Counter

import jax
import jax.numpy as jnp

from ppseg_jax.encryption.blocks import (
    check_images,
    from_blocks,
    per_image,
    to_blocks,
)
from ppseg_jax.encryption.keys import IMPL
from ppseg_jax.encryption.mix import Keyless
from ppseg_jax.encryption.ops import NibbleSplit
from ppseg_jax.encryption.schemes import Scheme, get_scheme
from ppseg_jax.encryption.threefry import Stream, stream_number
from ppseg_jax.errors import UserError


def check_keys(keys: jax.Array, images: jax.Array) -> None:
  """Raises UserError unless there is a proper key for each image."""
  if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
    raise UserError(
        f"keys must be typed jax.random keys, not {keys.dtype} values; make"
        " them with ppseg_jax.encryption.fresh_keys."
    )
  if str(jax.random.key_impl(keys)) != IMPL:
    raise UserError(
        f"keys must be of implementation {IMPL}, 128 bits each, not"
        f" {jax.random.key_impl(keys)}; make them with"
        " ppseg_jax.encryption.fresh_keys."
    )
  if keys.shape != images.shape[:-3]:
    raise UserError(
        f"keys of shape {keys.shape} do not fit images of shape"
        f" {images.shape}: one key an image is needed."
    )


def _streams(scheme: Scheme, key: jax.Array, images: int) -> list:
  """A keystream for each op, by its kind and its place among its kind."""
  seen = Counter()
  words = jax.random.key_data(key)

  def stream(op):
    if isinstance(op, NibbleSplit):
      return tuple(map(stream, op.ops))
    if isinstance(op, Keyless):
      return None  # takes no key
    kind = getattr(op, "kind", None)
    if not isinstance(kind, int):
      raise UserError(
          f"scheme '{scheme.name}': {type(op).__name__} has no number `kind`,"
          " which names its part of the keystream; give it one from 100 on."
      )
    number = stream_number(kind, seen[kind])
    seen[kind] += 1
    return Stream(words, number, images)

  return [stream(op) for op in scheme.ops]


def encrypt(
    scheme: str | Scheme, keys: jax.Array, images: jax.Array, block: int = 16
) -> jax.Array:
  """Encrypts each image under its own key.

  Args:
    scheme: its name or object.
    keys: typed `threefry4x32` keys, [B] (or [] for one image).
    images: uint8 or float (0 to 255) [B, H, W, C] (or [H, W, C]); H and W
      multiples of `block`. Permutations move floats of any value unchanged.
    block: the side M of a block in pixels.

  Returns:
    Encrypted images of the same shape and dtype.

  Raises:
    UserError: for an unknown scheme, a wrong size, dtype or kind of key.
  """
  return _apply("encrypt", scheme, keys, images, block)


def decrypt(
    scheme: str | Scheme, keys: jax.Array, images: jax.Array, block: int = 16
) -> jax.Array:
  """Undoes `encrypt`, to the last bit on uint8; arguments and errors alike.

  Raises UserError for a scheme that cannot be undone.
  """
  return _apply("decrypt", scheme, keys, images, block)


def _apply(
    way: str, scheme: str | Scheme, keys: jax.Array, images: jax.Array,
    block: int,
) -> jax.Array:
  scheme = get_scheme(scheme)
  check_images(images, block)
  check_keys(keys, images)
  images = jnp.asarray(images)
  at_once = len(images) if images.ndim == 4 else 1

  def one(key: jax.Array, image: jax.Array) -> jax.Array:
    height, width, _ = image.shape
    grid = (height // block, width // block)
    blocks = to_blocks(image, block)
    steps = list(zip(scheme.ops, _streams(scheme, key, at_once), strict=True))
    for op, stream in steps if way == "encrypt" else steps[::-1]:
      blocks = getattr(op, way)(stream, blocks, grid)
    return from_blocks(blocks, block, height, width)

  return per_image(one, keys, images)
