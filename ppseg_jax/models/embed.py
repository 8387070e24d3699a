"""Patch embeddings: what of each patch the encoder reads."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppseg_jax.encryption import (
    PixelShuffle,
    canonical,
    get_scheme,
    ops_of,
)
from ppseg_jax.errors import UserError
from ppseg_jax.models import rank

_CHANNELS = 16  # of the picture that an adaptation network makes


def block_tokens(
    images: jax.Array, patch: int, form: str, block: int
) -> jax.Array:
  """Tokens of what the canonical form leaves of each patch.

  Args:
    images: uint8 [B, H, W, C], plain or encrypted.
    patch: the patch size in pixels, a multiple of `block`.
    form: the scheme whose canonical form is read; that of `plain` is the block
      itself.
    block: the block size of the form in pixels.

  Returns:
    uint8 [B, N, P*P*C], N patches in row-major order; in each its blocks in
    row-major order.
  """
  tokens = canonical(form, images, block)  # [B, n, M*M*C]
  if patch == block:
    return tokens
  b, h, w, _ = images.shape
  r = patch // block
  tokens = tokens.reshape(b, h // patch, r, w // patch, r, -1)
  tokens = tokens.transpose(0, 1, 3, 2, 4, 5)
  return tokens.reshape(b, (h // patch) * (w // patch), -1)


def spreads(tokens: jax.Array, form: str, block: int) -> jax.Array:
  """How much values differ inside groups of a block's sorted values.

  Of channels, nothing inside groups whose means alone are shown: it tells at
  which level (`encryption.levels`) an image is, which nobody then has to say.

  Args:
    tokens: uint8 [B, N, P*P*C] of `block_tokens`.
    form: a scheme that shuffles by channel or by value.
    block: block size of the form in pixels.

  Returns:
    float32 [B, K]: for 1, 2, 4, ... groups the mean of largest less least, in 0
    to 1, over all groups of an image; K is the number of halvings.
  """
  (shuffle,) = ops_of(get_scheme(form), PixelShuffle)
  b, n, _ = tokens.shape
  values = tokens.reshape(b, -1, block * block, 3)
  if shuffle.unit == "value":
    values = values.reshape(b, -1, block * block * 3, 1)
  values = values.astype(jnp.float32) / 255
  found, length, groups = [], values.shape[2], 1
  while length % groups == 0 and groups < length:
    cut = values.reshape(b, -1, groups, length // groups, values.shape[-1])
    inside = cut[:, :, :, -1] - cut[:, :, :, 0]
    found.append(inside.reshape(b, -1).mean(1))
    groups *= 2
  return jnp.stack(found, -1)


class PatchEmbed(nn.Module):
  """A linear layer on the patches, or on their canonical form.

  `form='plain'` is ViT's usual embedding, with the values of a patch in
  row-major order. Any other form gives the same tokens for an image under every
  key of that scheme, to the last bit: nothing else of the image is read.

  Attributes:
    patch: patch size P in pixels.
    form: scheme whose canonical form is read; `plain` for the pixels.
    block: block size of that form; divides P.
    reader: hidden width of a layer with GELU beside the linear one; 0: none.
    spread: whether a linear layer on `spreads` is added to every token.
    dtype: of the computation.
  """

  patch: int
  form: str
  block: int
  reader: int = 0
  spread: bool = False
  dtype: jnp.dtype = jnp.float32

  @property
  def reads_pixels(self) -> bool:
    """Whether `linear` is a convolution of a picture's pixels."""
    return self.form == "plain"

  @nn.compact
  def __call__(self, images: jax.Array, width: int) -> jax.Array:
    """uint8 [B, H, W, C] -> [B, N, width]."""
    block = self.patch if self.form == "plain" else self.block
    tokens = block_tokens(images, self.patch, self.form, block)
    b, n, _ = tokens.shape
    values = _scaled(tokens, self.dtype)
    x = nn.Dense(width, dtype=self.dtype, name="linear")(values)
    if self.reader:
      y = nn.Dense(self.reader, dtype=self.dtype, name="hidden")(values)
      x = x + nn.Dense(width, dtype=self.dtype, name="reader")(nn.gelu(y))
    x = x.reshape(b, n, width)
    if self.spread:
      told = spreads(tokens, self.form, block)
      x = x + nn.Dense(width, dtype=self.dtype, name="spread")(told)[:, None]
    return x


class RankEmbed(nn.Module):
  """ViT's embedding of the picture that `rank.draw` makes of the form.

  Weights that were pretrained on pictures know edges and textures, which sorted
  values do not show. Nothing of the image is read but its canonical form, here
  either.

  Attributes:
    patch: patch size P in pixels.
    form: scheme whose canonical form is read.
    block: block size of that form.
    dtype: of the computation.
  """

  patch: int
  form: str
  block: int
  dtype: jnp.dtype = jnp.float32

  @property
  def reads_pixels(self) -> bool:
    return True

  @nn.compact
  def __call__(self, images: jax.Array, width: int) -> jax.Array:
    """uint8 [B, H, W, C] -> [B, N, width]."""
    picture = rank.draw(images, self.form, self.block)
    tokens = block_tokens(picture, self.patch, "plain", self.patch)
    b, n, _ = tokens.shape
    values = _scaled(tokens, self.dtype)
    x = nn.Dense(width, dtype=self.dtype, name="linear")(values)
    return x.reshape(b, n, width)


class AdaptNet(nn.Module):
  """An adaptation network, and ViT's embedding of the picture that it makes.

  For images under one key that never changes: every block position has a
  sub-network of its own, which can learn what the key does there, and a learned
  matrix over the positions can put back what block scrambling moved. Under keys
  that change there is nothing for either to learn.

  ELE-AdaptNet of Madono et al., arXiv 2001.07761, after its public code: a
  dense layer of 16 values a pixel for each block, leaky ReLU, the matrix, and a
  pixel shuffle, which before a linear layer is only an order of its inputs.
  Different here: no batch norm and no spectral norm in the sub-networks; the
  matrix begins as the identity and not at random; the loss has neither of their
  penalties, on the matrix (weight 0.001) and on steps between neighbouring
  pixels (0.1); a ViT follows and not a convolutional network.

  Attributes:
    patch: patch size P in pixels, a multiple of `block`.
    block: block size M of the scheme in pixels.
    grid: patches (rows, columns) of all images.
    dtype: of the computation.
  """

  patch: int
  block: int
  grid: tuple[int, int]
  dtype: jnp.dtype = jnp.float32

  @property
  def reads_pixels(self) -> bool:
    return False

  @property
  def form(self) -> str:
    return "plain"

  @nn.compact
  def __call__(self, images: jax.Array, width: int) -> jax.Array:
    """uint8 [B, H, W, C] -> [B, N, width].

    Raises UserError for images of another size than those trained on.
    """
    rows, columns = self.grid
    if images.shape[1:3] != (rows * self.patch, columns * self.patch):
      raise UserError(
          "model.embed=adaptnet has weights for each block of an image of"
          f" {rows * self.patch}x{columns * self.patch}, but was given one of"
          f" {images.shape[1]}x{images.shape[2]}; give it that size."
      )
    tokens = block_tokens(images, self.block, "plain", self.block)
    b, n, length = tokens.shape
    values = _scaled(tokens, self.dtype).reshape(b, n, length)
    features = _CHANNELS * self.block**2
    kernel = self.param(
        "kernel", nn.initializers.lecun_normal(batch_axis=0),
        (n, length, features),
    )
    bias = self.param("bias", nn.initializers.zeros, (n, features))
    order = self.param("order", lambda _, n: jnp.eye(n), n)
    x = jnp.einsum("bnk,nkf->bnf", values, kernel.astype(self.dtype))
    x = nn.leaky_relu(x + bias.astype(self.dtype), 0.2)
    x = jnp.einsum("bnf,nm->bmf", x, order.astype(self.dtype))
    r = self.patch // self.block
    x = x.reshape(b, rows, r, columns, r, features)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(b * rows * columns, -1)
    x = nn.Dense(width, dtype=self.dtype, name="patches")(x)
    return x.reshape(b, rows * columns, width)


def _scaled(tokens: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """uint8 [B, N, K] -> [B*N, K], -1 to 1.

  One scale for all channels: a scale per channel would not commute with ciphers
  that mix them.
  """
  return tokens.reshape(-1, tokens.shape[-1]).astype(dtype) / 127.5 - 1.0


class Stem(nn.Module):
  """3x3 convolutions over the grid of embedded patches, [B, h, w, D].

  A block's histograms say little of its texture; those of its neighbours say
  more (cf. convolutional stems: Xiao et al., NeurIPS 2021). Each layer is norm,
  GELU and convolution, added to its input.
  """

  layers: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    for i in range(self.layers):
      y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=f"norm{i}")(x)
      y = nn.Conv(x.shape[-1], (3, 3), dtype=self.dtype, name=f"conv{i}")(
          nn.gelu(y)
      )
      x = x + y
    return x


# Name in a config -> module with the fields and the call of PatchEmbed.
EMBEDS = {"dense": PatchEmbed, "rank": RankEmbed, "adaptnet": AdaptNet}
