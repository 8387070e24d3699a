"""The server's part of layout privacy: logits of a bag of blocks.

See `ppseg_jax.encryption.layout`, the client's part.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption import (
    BlockScramble,
    canonical,
    get_scheme,
    ops_of,
)
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.errors import UserError
from ppseg_jax.models.setr import SETR


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
  vit, embed = model.encoder, model.encoder.embed
  block = embed.patch
  b, h, w, c = images.shape
  rows = h // block
  if vit.pos_embed != "none":
    rows, columns = vit.pos_region
    if 0 < columns < w // block or vit.grid != (h // block, w // block):
      raise UserError(
          f"a model with pos_embed='{vit.pos_embed}' needs to know where"
          " blocks are; train one with model.pos_embed=none to hide the layout,"
          " or with model.pos_region=(rows, 0) and on images of this size to"
          " hide it within bands."
      )
    rows = rows or h // block
  if vit.stem:
    raise UserError(
        f"a model with stem={vit.stem} looks at neighbouring patches; train"
        " one with model.stem=0 to hide the layout."
    )
  if ops_of(get_scheme(embed.form), BlockScramble):
    raise UserError(
        f"a model that reads the form of '{embed.form}' sees its blocks sorted;"
        " use the scheme without BlockScramble, the client scrambles."
    )
  if embed.form != "plain" and embed.block != block:
    raise UserError(
        f"a model whose patches of {block} hold blocks of {embed.block} needs"
        " to know which of them lie together; choose block = patch to hide the"
        " layout."
    )
  band = np.arange(h // block) // rows
  order = _content_order(
      canonical(embed.form, images, block), band.repeat(w // block)
  )
  blocks = split(images, block)  # [B, N, M, M, C]
  blocks = jnp.take_along_axis(blocks, order[..., None, None, None], axis=1)
  ordered = join(blocks, (h // block, w // block))
  logits = model.apply(variables, ordered, upsample=False)
  logits = logits.reshape(b, order.shape[1], -1)
  return jax.vmap(lambda row, to: jnp.zeros_like(row).at[to].set(row))(
      logits, order
  )


def per_pixel(logits: jax.Array, block: int) -> jax.Array:
  """Logits of blocks, [B, h, w, K], for each pixel of theirs, [B, H, W, K].

  Nothing is mixed of neighbours, so that blocks may lie anywhere.
  """
  return logits.repeat(block, axis=1).repeat(block, axis=2)


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
