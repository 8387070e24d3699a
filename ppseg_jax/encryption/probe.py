"""What a scheme does under one key, found by encrypting images made for it.

Nothing here looks inside a scheme: the owner of a key learns how it moves
blocks and values from `encrypt` alone, for any scheme, a user's own as well.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption.blocks import check_size, split
from ppseg_jax.encryption.cipher import encrypt
from ppseg_jax.encryption.schemes import Scheme, get_scheme
from ppseg_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class SignedPermutation:
  """A cipher that does the same to every block, and perhaps moves them.

  Attributes:
    values: int32 [L]; value j of an encrypted block is value `values[j]` of
      the plain one, in row-major order of positions and then channels.
    negative: bool [L]; whether it is then turned to 255 - v.
    blocks: int32 [N]; place i holds block `blocks[i]`, both in row-major order.
  """

  values: np.ndarray
  negative: np.ndarray
  blocks: np.ndarray


def block_order(
    scheme: str | Scheme,
    key: jax.Array,
    height: int,
    width: int,
    block: int = 16,
    channels: int = 3,
) -> np.ndarray:
  """Which block lies at each place of an image encrypted under this key.

  Args:
    scheme: its name or object; what it does inside blocks does not matter.
    key: typed key [] of the image.
    height: of the image in pixels, a multiple of `block`; likewise `width`.
    width: see above.
    block: the side of a block in pixels.
    channels: of the image.

  Returns:
    int32 [N]: place i holds block `order[i]`, in row-major order.

  Raises:
    UserError: for wrong arguments, or a scheme whose blocks cannot be told.
  """
  scheme = get_scheme(scheme)
  _check_concrete(key)
  check_size((height, width, channels), block)
  count = height * width // block**2
  # Blocks of one even value 17 d: whatever shuffles, inverts (255 - 17 d is
  # 17 (15 - d)) or mixes nibbles inside a block leaves nibbles d or 15 - d.
  digits = max(1, -(-(count - 1).bit_length() // 3))  # of base 8
  number = np.arange(count)
  blocks = np.stack([number >> 3 * i & 7 for i in range(digits)])
  shape = (digits, height // block, 1, width // block, 1, 1)
  images = np.broadcast_to(
      (17 * blocks).astype(np.uint8).reshape(shape),
      (digits, height // block, block, width // block, block, channels),
  ).reshape(digits, height, width, channels)
  cipher = _encrypt_all(scheme, key, images, block)  # [digits, N, L]
  order = np.zeros(count, np.int64)
  known = True
  for i in range(digits):
    low, high = cipher[i] & 15, cipher[i] >> 4
    found = np.minimum(low, 15 - low)
    known &= (found == found[:, :1]).all()
    known &= (np.minimum(high, 15 - high) == found).all()
    order += found[:, 0].astype(np.int64) << 3 * i
  if not known or not np.array_equal(np.sort(order), number):
    raise UserError(
        f"scheme '{scheme.name}' does not keep the values of a block together,"
        " so its blocks cannot be put back in order without decrypting."
    )
  return order.astype(np.int32)


def signed_permutation(
    scheme: str | Scheme,
    key: jax.Array,
    height: int,
    width: int,
    block: int = 16,
    channels: int = 3,
) -> SignedPermutation:
  """The permutation and signs that a scheme of image scope applies.

  Found from images whose values are their own indices, and checked on an image
  of random values. Arguments as for `block_order`.

  Raises:
    UserError: for a scheme that is anything else: one of block scope, or one
      that mixes values (nibbles).
  """
  scheme = get_scheme(scheme)
  order = block_order(scheme, key, height, width, block, channels)
  length = block**2 * channels
  index = np.arange(length)
  digits = np.stack([index & 127, index >> 7 & 127, index >> 14])
  grid = (height // block, width // block)
  plain = np.tile(
      digits.astype(np.uint8).reshape(3, block, block, channels),
      (1, *grid, 1),
  )
  first = _encrypt_all(scheme, key, plain, block)[:, 0].astype(np.int64)
  negative = first > 127
  digits = np.where(negative, 255 - first, first)
  values = digits[0] + (digits[1] << 7) + (digits[2] << 14)

  noise = np.random.default_rng(0).integers(
      0, 256, (1, height, width, channels), np.uint8
  )
  moved = _blocks(noise, block)[0, order][:, values % length]
  expected = np.where(negative[0], 255 - moved, moved)
  if (
      (negative != negative[0]).any()
      or not np.array_equal(np.sort(values), index)
      or not np.array_equal(
          _encrypt_all(scheme, key, noise, block)[0], expected
      )
  ):
    raise UserError(
        f"scheme '{scheme.name}' does not move and invert values alike in every"
        " block, so no model can be adapted to its key; use one whose ops have"
        " scope 'image', as 'independent'."
    )
  return SignedPermutation(values.astype(np.int32), negative[0], order)


def _check_concrete(key: jax.Array) -> None:
  if isinstance(key, jax.core.Tracer):
    raise UserError(
        "the key must be a value, not one traced by jit: what it does is"
        " looked at here; call this outside jit and pass the result in."
    )
  if key.shape:
    raise UserError(f"one key is needed, but the shape is {key.shape}.")


def _encrypt_all(
    scheme: Scheme, key: jax.Array, images: np.ndarray, block: int
) -> np.ndarray:
  """Encrypts images [B, H, W, C] under one key; blocks, uint8 [B, N, L]."""
  keys = jnp.broadcast_to(key, (len(images),))
  return _blocks(np.asarray(_jit_encrypt(scheme, keys, images, block)), block)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _jit_encrypt(scheme, keys, images, block):
  return encrypt(scheme, keys, images, block)


def _blocks(images: np.ndarray, block: int) -> np.ndarray:
  """[B, H, W, C] -> [B, N, L], each in row-major order."""
  blocks = split(images, block)
  return blocks.reshape(*blocks.shape[:2], -1)
