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

    cipher = encrypt("blockwise_hidden", key, image, block)  # the client
    logits = bag.block_logits(model, variables, cipher[None])[0]  # the server
    height, width = image.shape[:2]  # the client
    labels = assemble(
        logits, "blockwise_hidden", key, height, width, block
    ).argmax(-1)
"""

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption.cipher import decrypt
from ppseg_jax.encryption.ops import BlockScramble
from ppseg_jax.encryption.probe import block_order
from ppseg_jax.encryption.schemes import Scheme, get_scheme, ops_of
from ppseg_jax.errors import UserError


def moves_of(scheme: str | Scheme) -> Scheme:
  """What of a scheme moves blocks, under the same keys, and nothing else."""
  moves = tuple(ops_of(get_scheme(scheme), BlockScramble))
  return Scheme("moves", moves, leaks="The image, its blocks moved.",
                source="A part of another scheme.")


def put_back(
    logits: jax.Array, scheme: str | Scheme, keys: jax.Array
) -> jax.Array:
  """Logits of the blocks of a batch, in the order they had before.

  For schemes of this package's ops; unlike `assemble` it can be jitted.

  Args:
    logits: float32 [B, h, w, classes], a block each, as the server saw them.
    scheme: that the images were encrypted with.
    keys: typed keys [B].
  """
  return decrypt(moves_of(scheme), keys, logits, block=1)


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
