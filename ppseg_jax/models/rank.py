"""A picture drawn from the canonical form, for models that know pictures.

The values of each block are laid out by rank along a smooth surface through the
neighbouring blocks, as the attack `rank` does. It is a function of the
canonical form, in integers alone: the same to the last bit under every key, on
every device and in every batch.
"""

import jax
import jax.numpy as jnp

from ppseg_jax.encryption import canonical
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.encryption.permutations import (
    in_chunks,
    position_bits,
    sort_leading,
)
from ppseg_jax.errors import UserError

LARGEST_BLOCK = 32  # above it sums of `_blur` would not fit in 32 bits
_ROUNDS = 2  # more bring SSIM 0.003 each, on frames of CamVid train


def draw(images: jax.Array, form: str, block: int) -> jax.Array:
  """A picture with the canonical form of each image, which is all it is of.

  Args:
    images: uint8 [B, H, W, 3], plain or encrypted.
    form: `blockwise` or `blockwise_value`, whose form is read; a picture of the
      latter is grey, of the values three at a time.
    block: block size M of the form in pixels, at most LARGEST_BLOCK.

  Returns:
    uint8 [B, H, W, 3].

  Raises:
    UserError: for larger blocks.
  """
  if block > LARGEST_BLOCK:
    raise UserError(
        f"a picture by rank takes blocks of at most {LARGEST_BLOCK}, not"
        f" {block}."
    )
  b, h, w, c = images.shape
  grid, places = (h // block, w // block), block * block
  values = canonical(form, images, block).astype(jnp.int32)
  values = values.reshape(b, -1, places, c)
  if form == "blockwise_value":
    values = (2 * values.sum(-1, keepdims=True) + c) // (2 * c)
  mean = (2 * values.sum(2, keepdims=True) + places) // (2 * places)

  def joined(values: jax.Array) -> jax.Array:  # [B, N, M*M, C] -> [B, H, W, C]
    return join(values.reshape(b, -1, block, block, values.shape[-1]), grid)

  surface = _blur(joined(jnp.broadcast_to(mean, values.shape)), block + 1)
  for _ in range(_ROUNDS):
    surface = _blur(joined(_lay(values, surface, block)), block // 2 + 1)
  picture = joined(_lay(values, surface, block))
  return jnp.broadcast_to(picture, images.shape).astype(jnp.uint8)


def _lay(values: jax.Array, surface: jax.Array, block: int) -> jax.Array:
  """In each block the least value where the surface is least, and so on.

  Args:
    values: int32 [B, N, M*M, C], sorted.
    surface: int32 [B, H, W, C], not negative.
    block: M.

  Returns:
    int32 [B, N, M*M, C].
  """
  b, n, places, c = values.shape

  def as_columns(cells: jax.Array) -> jax.Array:  # [M*M, B*N*C]
    return cells.transpose(2, 0, 1, 3).reshape(places, -1).astype(jnp.uint32)

  bits = position_bits(places)
  low = max(0, (255 * (block + 1) ** 4).bit_length() + bits - 32)
  position = jnp.arange(places, dtype=jnp.uint32)[:, None]

  def lay(_, both):
    order = sort_leading(both[..., 0] >> low << bits | position)
    order &= (1 << bits) - 1
    laid = sort_leading(order << 8 | both[..., 1]) & 255
    return jnp.stack([laid, laid], -1)  # of the shape that came

  cells = split(surface, block).reshape(values.shape)
  both = jnp.stack([as_columns(cells), as_columns(values)], -1)
  laid = in_chunks(lay, both, 1, 4 * places)[..., 0]
  laid = laid.astype(jnp.int32).reshape(places, b, n, c)
  return laid.transpose(1, 2, 0, 3)


def _blur(picture: jax.Array, side: int) -> jax.Array:
  """Sums over windows of `side` and again, each way: a blur, times side**4.

  For an even side the second windows lie half a pixel to the other side.
  """
  for axis in (1, 2):
    for before in (side // 2, (side - 1) // 2):
      pads = [(0, 0)] * picture.ndim
      pads[axis] = (before, side - 1 - before)
      padded = jnp.pad(picture, pads, mode="edge")
      length = picture.shape[axis]
      picture = sum(
          jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
          for i in range(side)
      )
  return picture
