"""Images cut into blocks, and put together again."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ppseg_jax.errors import UserError


def to_blocks(image: jax.Array, block: int) -> jax.Array:
  """[H, W, C] -> [M*M, N, C], positions and blocks in row-major order."""
  h, w, c = image.shape
  cells = image.reshape(h // block, block, w // block, block, c)
  return cells.transpose(1, 3, 0, 2, 4).reshape(block * block, -1, c)


def from_blocks(
    blocks: jax.Array, block: int, height: int, width: int
) -> jax.Array:
  """[M*M, N, C] -> [H, W, C]: the inverse of `to_blocks`."""
  grid = (block, block, height // block, width // block, blocks.shape[-1])
  cells = blocks.reshape(grid).transpose(2, 0, 3, 1, 4)
  return cells.reshape(height, width, blocks.shape[-1])


def split(images: jax.Array, block: int) -> jax.Array:
  """[B, H, W, C] -> [B, N, M, M, C], blocks in row-major order; NumPy too."""
  b, h, w, c = images.shape
  cells = images.reshape(b, h // block, block, w // block, block, c)
  return cells.swapaxes(2, 3).reshape(b, -1, block, block, c)


def join(blocks: jax.Array, grid: tuple[int, int]) -> jax.Array:
  """[B, N, M, M, C] -> [B, H, W, C], N = h * w: the inverse of `split`."""
  b, _, m, _, c = blocks.shape
  cells = blocks.reshape(b, *grid, m, m, c).swapaxes(2, 3)
  return cells.reshape(b, grid[0] * m, grid[1] * m, c)


def check_size(shape: tuple[int, ...], block: int) -> None:
  """Raises UserError unless images [..., H, W, C] divide into blocks."""
  height, width = shape[-3:-1]
  if block < 1 or height < 1 or width < 1 or height % block or width % block:
    raise UserError(
        f"image size {height}x{width} is not a multiple of the block size"
        f" {block}; resize, crop or pad the image, or choose another block."
    )


def check_images(images: jax.Array, block: int) -> None:
  """Raises UserError unless the images are what `encrypt` takes."""
  if images.ndim not in (3, 4):
    raise UserError(
        "images must be [H, W, C] or [B, H, W, C], but the shape is"
        f" {images.shape}."
    )
  if images.dtype != jnp.uint8 and not jnp.issubdtype(
      images.dtype, jnp.floating
  ):
    raise UserError(
        f"images must be uint8 or float in 0 to 255, not {images.dtype}."
    )
  check_size(images.shape, block)


def per_image(function: Callable, *arrays: jax.Array) -> jax.Array:
  """Calls the function on one image, or maps it over a batch of them."""
  return (jax.vmap(function) if arrays[-1].ndim == 4 else function)(*arrays)
