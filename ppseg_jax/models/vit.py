"""Vision Transformer encoder (Dosovitskiy et al., ICLR 2021), pre-norm."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppseg_jax.encryption import canonical

SIZES = {  # width, depth, heads; the MLP is 4 times as wide
    "demo": (128, 4, 4),  # for a CPU; no published counterpart
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}

_init = nn.initializers.truncated_normal(0.02)


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


class PatchEmbed(nn.Module):
  """A linear layer on the patches, or on their canonical form.

  `form='plain'` is ViT's usual embedding, with the values of a patch in
  row-major order. Any other form gives the same tokens for an image under every
  key of that scheme, to the last bit: nothing else of the image is read.
  """

  width: int
  patch: int
  form: str
  block: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    block = self.patch if self.form == "plain" else self.block
    tokens = block_tokens(images, self.patch, self.form, block)
    # One scale for all channels: a scale per channel would not commute with
    # ciphers that mix them.
    b, n, values = tokens.shape
    tokens = tokens.reshape(b * n, values).astype(self.dtype) / 127.5 - 1.0
    x = nn.Dense(self.width, dtype=self.dtype, name="linear")(tokens)
    return x.reshape(b, n, self.width)


class Block(nn.Module):
  """Self-attention and MLP, each on the normalised input and added to it."""

  heads: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [B, N, D]
    b, n, width = x.shape
    split = (self.heads, width // self.heads)

    def norm(name: str, x: jax.Array) -> jax.Array:
      return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=name)(x)

    def dense(name: str, features: tuple[int, ...], x: jax.Array, axis=-1):
      return nn.DenseGeneral(
          features, axis, dtype=self.dtype, kernel_init=_init, name=name
      )(x)

    # Tokens in one dimension: with two, the gradient of a dense layer takes
    # XLA twice as long on a CPU.
    x = x.reshape(b * n, width)
    qkv = dense("qkv", (3, *split), norm("norm1", x))
    q, k, v = jnp.moveaxis(qkv.reshape(b, n, 3, *split), 2, 0)
    y = _attention(q, k, v).reshape(b * n, *split)
    x = x + dense("proj", (width,), y, axis=(-2, -1))
    y = nn.gelu(dense("up", (4 * width,), norm("norm2", x)), approximate=True)
    x = x + dense("down", (width,), y)
    return x.reshape(b, n, width)


def _attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """Softmax attention of [B, N, heads, d], the softmax in float32."""
  fused = q.dtype in (jnp.bfloat16, jnp.float16) and q.shape[-1] % 8 == 0
  if fused and jax.default_backend() == "gpu":
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
  q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # [B, heads, N, d]
  scores = jnp.einsum(
      "bhqd,bhkd->bhqk", q * q.shape[-1] ** -0.5, k,
      preferred_element_type=jnp.float32,
  )
  # Dividing after the product with v rather than before it halves the time of
  # forward and backward on a CPU.
  largest = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
  weights = jnp.exp(scores - largest)
  mixed = jnp.einsum(
      "bhqk,bhkd->bhqd", weights.astype(v.dtype), v,
      preferred_element_type=jnp.float32,
  )
  mixed = mixed / weights.sum(-1, keepdims=True)
  return mixed.astype(v.dtype).swapaxes(1, 2)


class ViT(nn.Module):
  """Images -> the normalised tokens of the last layer, [B, h, w, D].

  The position embedding is kept as a grid, and resized bilinearly where an
  image's grid is another one.
  """

  size: str
  patch: int
  form: str
  block: int
  grid: tuple[int, int]
  dtype: jnp.dtype
  remat: bool = False

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    width, depth, heads = SIZES[self.size]
    h, w = images.shape[1] // self.patch, images.shape[2] // self.patch
    x = PatchEmbed(
        width, self.patch, self.form, self.block, self.dtype, name="embed"
    )(images)
    positions = self.param("pos_embed", _init, (*self.grid, width))
    if (h, w) != self.grid:
      positions = jax.image.resize(positions, (h, w, width), "bilinear")
    x = x + positions.reshape(1, h * w, width).astype(self.dtype)
    make_block: Callable = nn.remat(Block) if self.remat else Block
    for i in range(depth):
      x = make_block(heads, self.dtype, name=f"block{i}")(x)
    x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(x)
    return x.reshape(x.shape[0], h, w, width)
