"""Layout privacy: a server that cannot put the map together.

The client scrambles blocks under its own key on top of a scheme, so that the
server sees a bag of blocks, each as the scheme leaves it, and not where they
were. A model without position embeddings and with a head that looks at each
token on its own (Naive) is equivariant: the same blocks in another order have
the same logits in that order. The server returns logits per block, and the
client puts them in order and upsamples.

The client gets the very logits it would have got without scrambling. Attention
sums over tokens, so that in float32 another order would change the last bits;
the server therefore puts the blocks in an order of its own first, by their
content.

    hidden = hide_layout("blockwise")  # the client
    cipher = encrypt(hidden, key, image, block)
    logits = block_logits(model, variables, cipher[None])[0]  # the server
    height, width = image.shape[:2]  # the client
    labels = assemble(logits, hidden, key, height, width, block).argmax(-1)
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption import (
    BlockScramble,
    Scheme,
    canonical,
    get_scheme,
    ops_of,
)
from ppseg_jax.encryption.probe import block_order
from ppseg_jax.errors import UserError
from ppseg_jax.models.setr import SETR


def hide_layout(scheme: str | Scheme, bands: int = 0) -> Scheme:
  """The scheme with its blocks scrambled over the whole image first.

  With `bands` inside horizontal bands of so many rows of blocks: what is above
  and what below then stays known, and how much of each class is in a band.
  """
  scheme = get_scheme(scheme)
  where = "In no order"
  if bands:
    where = f"In no order within bands of {bands} rows of blocks"
  return dataclasses.replace(
      scheme,
      name=f"{scheme.name}_{f'bands{bands}' if bands else 'hidden'}",
      ops=(BlockScramble(height=bands), *scheme.ops),
      leaks=f"{where}, what '{scheme.name}' leaves of each block, which is:"
      f" {scheme.leaks}",
  )


def block_logits(
    model: SETR, variables: dict, images: jax.Array
) -> jax.Array:
  """The server's part: logits of each block, float32 [B, N, classes].

  The same bits for the same blocks in any order and under any key; for a model
  with bands (`pos_region=(rows, 0)`), in any order within each band.

  Args:
    model: without position embeddings, or with one a band, and with a head that
      looks at each token on its own (Naive); its patch is the block of the
      scheme.
    variables: its variables.
    images: uint8 [B, H, W, C], encrypted.

  Raises:
    UserError: for any other model.
  """
  block = model.patch
  b, h, w, c = images.shape
  rows = h // block
  if model.pos_embed != "none":
    rows, columns = model.pos_region
    if 0 < columns < w // block or model.grid != (h // block, w // block):
      raise UserError(
          f"a model with pos_embed='{model.pos_embed}' needs to know where"
          " blocks are; train one with model.pos_embed=none to hide the layout,"
          " or with model.pos_region=(rows, 0) and on images of this size to"
          " hide it within bands."
      )
    rows = rows or h // block
  if model.stem:
    raise UserError(
        f"a model with stem={model.stem} looks at neighbouring patches; train"
        " one with model.stem=0 to hide the layout."
    )
  if ops_of(get_scheme(model.form), BlockScramble):
    raise UserError(
        f"a model that reads the form of '{model.form}' sees its blocks sorted;"
        " use the scheme without BlockScramble, the client scrambles."
    )
  if model.form != "plain" and model.block != block:
    raise UserError(
        f"a model whose patches of {block} hold blocks of {model.block} needs"
        " to know which of them lie together; choose block = patch to hide the"
        " layout."
    )
  band = np.arange(h // block) // rows
  order = _content_order(
      canonical(model.form, images, block), band.repeat(w // block)
  )
  cells = images.reshape(b, h // block, block, w // block, block, c)
  cells = cells.swapaxes(2, 3)  # [B, h, w, M, M, C]
  flat = cells.reshape(b, -1, block * block * c)
  flat = jnp.take_along_axis(flat, order[..., None], axis=1)
  ordered = flat.reshape(cells.shape).swapaxes(2, 3).reshape(images.shape)
  logits = model.apply(variables, ordered, upsample=False)
  logits = logits.reshape(b, order.shape[1], -1)
  return jax.vmap(lambda row, to: jnp.zeros_like(row).at[to].set(row))(
      logits, order
  )


def _content_order(tokens: jax.Array, band: np.ndarray) -> jax.Array:
  """An order of tokens, uint8 [B, N, L], by band [N] and their values alone.

  By two 32-bit sums with random weights: they are the same for two different
  tokens with a chance of at most 2**-50 (a difference may hold seven factors
  of 2), and then only the last bits of logits are at stake. Equal tokens may
  change places, which changes nothing.
  """
  weights = np.random.default_rng(0).integers(
      0, 2**32, (2, tokens.shape[-1]), np.uint32
  )
  first, second = (
      (tokens.astype(jnp.uint32) * row).sum(-1, dtype=jnp.uint32)
      for row in weights
  )
  band = jnp.broadcast_to(jnp.asarray(band, jnp.uint32), first.shape)
  return jnp.lexsort((first, second, band), axis=-1)


def assemble(
    logits: jax.Array,
    scheme: str | Scheme,
    key: jax.Array,
    height: int,
    width: int,
    block: int = 16,
    channels: int = 3,
) -> jax.Array:
  """The client's part: logits of one image in order and of its size.

  Args:
    logits: [N, classes], of the blocks in the order the server saw them.
    scheme: that the image was encrypted with.
    key: typed key [] of the image.
    height: of the image in pixels; likewise `width`.
    width: see above.
    block: of the scheme.
    channels: of the image.

  Returns:
    float32 [H, W, classes], as the model upsamples them.

  Raises:
    UserError: where the logits are not one row a block.
  """
  order = block_order(scheme, key, height, width, block, channels)
  if logits.ndim != 2 or len(logits) != len(order):
    raise UserError(
        f"logits of shape {logits.shape} do not fit an image of"
        f" {height}x{width}, which has {len(order)} blocks of {block}."
    )
  places = np.argsort(order)  # of each block
  classes = logits.shape[-1]
  grid = jnp.asarray(logits, jnp.float32)[places].reshape(
      height // block, width // block, classes
  )
  return jax.image.resize(grid, (height, width, classes), "bilinear")
