"""Models adapted to a shared key: where encryption and models meet.

A model trained on plain images, its patch embedding transformed by the secret
key, gives on images under that key the logits it gave on plain ones, and other
ones under any other key (Kiya et al., J. Imaging 8(9):233, 2022: the key
protects the model). Sueyoshi et al. (2507.12730) transform a *pretrained*
embedding likewise and then fine-tune on encrypted images: the same function,
called on the pretrained variables before training.

How useless depends on the cipher: a permutation leaves the means of blocks, and
a model keeps what accuracy these give it under any key; with inverted values
(negative-positive) it keeps none.

This is for keys that all images share, and so for schemes of image scope. It
is exact by algebra: the embedding sees v / 127.5 - 1, so that a value moved is
a row of the kernel moved, and 255 - v is its sign turned.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax import distributed
from ppseg_jax.encryption.probe import SignedPermutation, signed_permutation
from ppseg_jax.encryption.schemes import Scheme
from ppseg_jax.errors import UserError


def adapt_variables(
    variables: dict,
    scheme: str | Scheme,
    key: jax.Array,
    block: int = 16,
    grid: tuple[int, int] | None = None,
) -> dict:
  """A plain-trained SETR's variables, for images encrypted under one key.

  With a scheme that scrambles blocks the position embeddings move as well. The
  logits then come out at the places the blocks were moved to: per block
  (`SETR`'s logits before upsampling) place i has those of block `order[i]`, and
  the key's owner puts them in order (`ppseg_jax.encryption.layout`). Only a
  head that looks at each token on its own allows that. For a label of the whole
  image no order is needed.

  Args:
    variables: of a `SETR` whose embedding has `form='plain'`; the other
      leaves, among them the embedding's bias, are passed on as they are.
    scheme: of image scope, its name or object.
    key: typed key [] that every image shares.
    block: of the scheme; the model's patch size.
    grid: blocks (rows, columns) of the images; that of the position embeddings
      if not given.

  Returns:
    Variables of the same structure. Where blocks are scrambled and `grid` is
    another than that of the position embeddings, these are resized to it, so
    that the model's encoder must be one of that grid
    (`encoder.clone(grid=grid)`).

  Raises:
    UserError: where the scheme is not of image scope, the embedding is not a
      linear one of such blocks, or the head mixes neighbouring tokens that the
      scheme has moved apart.
  """
  encoder = variables["params"].get("encoder", {})
  try:
    kernel = encoder["embed"]["linear"]["kernel"]
  except (KeyError, TypeError):
    raise UserError(
        "the variables have no params/encoder/embed/linear/kernel; give those"
        " of a SETR with form='plain'."
    ) from None
  if "hidden" in encoder["embed"]:
    raise UserError(
        "the patch embedding has a hidden layer, which is not adapted; train"
        " with model.reader=0."
    )
  channels, rest = divmod(kernel.shape[0], block**2)
  if rest or not 1 <= channels <= 4:
    raise UserError(
        f"the patch embedding reads {kernel.shape[0]} values, which does not"
        f" fit block={block}; give the block size that is the patch size."
    )
  positions = encoder.get("pos_embed")
  if grid is None:
    grid = (4, 4) if positions is None else positions.shape[:2]
  cipher = signed_permutation(
      scheme, key, grid[0] * block, grid[1] * block, block, channels
  )
  scrambled = not np.array_equal(cipher.blocks, np.arange(len(cipher.blocks)))
  if scrambled:
    _check_head(variables["params"])
  embed = encoder["embed"] | {
      "linear": encoder["embed"]["linear"]
      | {"kernel": move_kernel(kernel, cipher)}
  }
  encoder = encoder | {"embed": embed}
  if scrambled and positions is not None:
    encoder["pos_embed"] = move_positions(positions, cipher, grid)
  return variables | {"params": variables["params"] | {"encoder": encoder}}


def move_kernel(kernel: jax.Array, cipher: SignedPermutation) -> jax.Array:
  """The kernel [L, D] whose product with encrypted tokens is the plain one."""
  signs = jnp.where(cipher.negative, -1, 1).astype(kernel.dtype)
  return jnp.asarray(kernel)[cipher.values] * signs[:, None]


def move_positions(
    positions: jax.Array, cipher: SignedPermutation, grid: tuple[int, int]
) -> jax.Array:
  """Position embeddings [h, w, D] that go with the blocks, [*grid, D]."""
  width = positions.shape[-1]
  if positions.shape[:2] != tuple(grid):
    positions = jax.image.resize(positions, (*grid, width), "bilinear")
  rows = jnp.asarray(positions).reshape(-1, width)
  return rows[cipher.blocks].reshape(*grid, width)


def _check_head(params: dict) -> None:
  for name, part in params.items():
    if name == "encoder":
      continue
    for leaf in jax.tree.leaves(part):
      if leaf.ndim == 4 and leaf.shape[:2] != (1, 1):
        raise UserError(
            f"'{name}' looks at neighbouring tokens, which the scheme moves"
            " apart; use the Naive decoder or a scheme without block"
            " scrambling."
        )


def adapted(
    variables: dict, scheme: str, key: jax.Array, block: int
) -> dict:
  """`adapt_variables` of variables on a mesh, whose devices may be apart."""
  if not distributed.several():
    return adapt_variables(variables, scheme, key, block)
  whole = jax.tree.map(distributed.whole, variables)
  found = adapt_variables(whole, scheme, key, block)
  return jax.tree.map(
      lambda x, old: jax.device_put(np.asarray(x), old.sharding),
      found, variables,
  )
