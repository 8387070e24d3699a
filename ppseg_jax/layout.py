"""Layout privacy: a server that cannot put the map together.

The client scrambles blocks under its own key on top of a scheme, so that the
server sees a bag of blocks, each as the scheme leaves it, and not where they
were. A model without position embeddings and with a head that looks at each
token on its own (Naive) is equivariant: the same blocks in another order have
the same logits in that order. The server returns logits per block, and the
client puts them in order and upsamples.

In exact arithmetic the map is the one without scrambling. Attention sums over
tokens, so in float32 another order changes the last bits of the logits; the
labels are equal but where two classes tie to that precision.

    hidden = hide_layout("blockwise")                  # client
    cipher = encrypt(hidden, key, image, block)        # client -> server
    logits = block_logits(model, variables, cipher[None])[0]   # server -> client
    labels = assemble(logits, hidden, key, *image.shape[:2], block).argmax(-1)
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption import BlockScramble, Scheme, get_scheme
from ppseg_jax.encryption.probe import block_order


def hide_layout(scheme: str | Scheme) -> Scheme:
  """The scheme with its blocks scrambled over the whole image first."""
  scheme = get_scheme(scheme)
  return dataclasses.replace(
      scheme,
      name=f"{scheme.name}_hidden",
      ops=(BlockScramble(), *scheme.ops),
      leaks=f"In no order, what '{scheme.name}' leaves of each block, which"
      f" is: {scheme.leaks}",
  )


def block_logits(
    model: nn.Module, variables: dict, images: jax.Array
) -> jax.Array:
  """The server's part: logits of each block, float32 [B, N, classes].

  Args:
    model: a `SETR` without position embeddings, with the Naive head, whose
      patch is the block of the scheme.
    variables: its variables.
    images: uint8 [B, H, W, C], encrypted.
  """
  logits = model.apply(variables, images, upsample=False)
  return logits.reshape(logits.shape[0], -1, logits.shape[-1])


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
  """
  order = block_order(scheme, key, height, width, block, channels)
  places = np.argsort(order)  # of each block
  classes = logits.shape[-1]
  grid = jnp.asarray(logits, jnp.float32)[places].reshape(
      height // block, width // block, classes
  )
  return jax.image.resize(grid, (height, width, classes), "bilinear")
