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
    logits = bag.block_logits(model, variables, cipher[None])[0]  # the server
    height, width = image.shape[:2]  # the client
    labels = assemble(logits, hidden, key, height, width, block).argmax(-1)
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption.ops import BlockScramble
from ppseg_jax.encryption.probe import block_order
from ppseg_jax.encryption.schemes import Scheme, get_scheme
from ppseg_jax.errors import UserError


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
