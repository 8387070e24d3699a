"""Vision Transformer encoder (Dosovitskiy et al., ICLR 2021), pre-norm."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppseg_jax.models.embed import Stem


class Size(NamedTuple):
  """A size of encoder; the MLP is 4 times as wide."""

  width: int
  depth: int
  heads: int
  distilled: bool = False  # DeiT's second token beside the class token
  # By the error function, as timm and Hugging Face run the published weights.
  # By tanh a train step of `demo` takes an eighth less on a CPU.
  exact_gelu: bool = True


SIZES = {
    "demo": Size(128, 4, 4, exact_gelu=False),  # for a CPU; none published
    "tiny": Size(192, 12, 3),
    "small": Size(384, 12, 6),
    "base": Size(768, 12, 12),
    "large": Size(1024, 24, 16),
    # Touvron et al., ICML 2021. DeiT without distillation is tiny to base.
    "deit_tiny": Size(192, 12, 3, distilled=True),
    "deit_small": Size(384, 12, 6, distilled=True),
    "deit_base": Size(768, 12, 12, distilled=True),
}

# Parameter of a block -> mesh axes of its dimensions, for `sharding`. Heads and
# MLP columns go over `model` (Megatron's cut: one sum after proj, one after
# down), the other large dimension over `fsdp`.
BLOCK_AXES = {
    "qkv/kernel": ("fsdp", None, "model", None),
    "qkv/bias": (None, "model", None),
    "proj/kernel": ("model", None, "fsdp"),
    "up/kernel": ("fsdp", "model"),
    "up/bias": ("model",),
    "down/kernel": ("model", "fsdp"),
}

_init = nn.initializers.truncated_normal(0.02)


class Block(nn.Module):
  """Self-attention and MLP, each on the normalised input and added to it.

  Attributes:
    heads: of the attention.
    dtype: of the computation.
    exact_gelu: by the error function rather than by tanh.
    dropout: rate after each dense layer but qkv.
    drop_path: rate at which a sample skips a branch (Huang et al., ECCV 2016);
      the branches that stay are scaled up.
    train: whether anything is dropped.
  """

  heads: int
  dtype: jnp.dtype
  exact_gelu: bool
  dropout: float
  drop_path: float
  train: bool

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

    def drop(x: jax.Array) -> jax.Array:
      return nn.Dropout(self.dropout, deterministic=not self.train)(x)

    def drop_path(branch: jax.Array) -> jax.Array:
      whole = nn.Dropout(
          self.drop_path, broadcast_dims=(1,), deterministic=not self.train
      )
      return whole(branch.reshape(b, n * width)).reshape(b * n, width)

    # Tokens in one dimension: with two, the gradient of a dense layer takes
    # XLA twice as long on a CPU.
    x = x.reshape(b * n, width)
    qkv = dense("qkv", (3, *split), norm("norm1", x))
    q, k, v = jnp.moveaxis(qkv.reshape(b, n, 3, *split), 2, 0)
    y = _attention(q, k, v).reshape(b * n, *split)
    x = x + drop_path(drop(dense("proj", (width,), y, axis=(-2, -1))))
    y = dense("up", (4 * width,), norm("norm2", x))
    y = drop(nn.gelu(y, approximate=not self.exact_gelu))
    x = x + drop_path(drop(dense("down", (width,), y)))
    return x.reshape(b, n, width)


def _for_gpu() -> bool:
  """Whether what is traced will run on a GPU; the host draws first weights."""
  device = jax.config.jax_default_device
  return getattr(device, "platform", device or jax.default_backend()) == "gpu"


def _attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """Softmax attention of [B, N, heads, d], the softmax in float32."""
  fused = q.dtype in (jnp.bfloat16, jnp.float16) and q.shape[-1] % 8 == 0
  if fused and _for_gpu():
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
  """Images -> the normalised tokens of the last layer, and of others raw.

  The position embedding is kept as a grid, and resized bilinearly where an
  image's grid is another one. Leading tokens have none of their own: it would
  only be added to them.

  Attributes:
    embed: the patch embedding, see `PatchEmbed`.
    size: a key of SIZES.
    grid: patches (rows, columns) of the images trained on.
    dtype: of the computation; parameters and softmax are float32.
    pos_embed: `learned`, or `none` for an encoder that sees a bag of patches.
    pos_region: patches (rows, columns) that share a position embedding, so that
      the encoder sees a bag of patches for each such region; 0 is all of them.
    stem: layers of `Stem` between embedding and blocks.
    class_token: whether a class token, and DeiT's distillation token, take part
      in the attention; they are not returned.
    drop_path: rate of the last block; it grows linearly from 0 at the first.
    dropout: rate after the embeddings and inside the blocks.
    remat: recompute each block in the backward pass, to save memory.
  """

  embed: nn.Module
  size: str
  grid: tuple[int, int]
  dtype: jnp.dtype = jnp.float32
  pos_embed: str = "learned"
  pos_region: tuple[int, int] = (1, 1)
  stem: int = 0
  class_token: bool = False
  drop_path: float = 0.0
  dropout: float = 0.0
  remat: bool = False

  @nn.compact
  def __call__(
      self,
      images: jax.Array,
      layers: tuple[int, ...] = (),
      train: bool = False,
  ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """uint8 [B, H, W, C] -> ([B, h, w, D], one [B, h, w, D] for each layer).

    `layers` are those, from 1, whose output is returned as well; 0 is what goes
    into the first.
    """
    size, patch = SIZES[self.size], self.embed.patch
    h, w = images.shape[1] // patch, images.shape[2] // patch
    x = self.embed(images, size.width)
    if self.stem:
      x = x.reshape(-1, h, w, size.width)
      x = Stem(self.stem, self.dtype, name="stem")(x)
      x = x.reshape(-1, h * w, size.width)
    if self.pos_embed == "learned":
      region = [r or g for r, g in zip(self.pos_region, self.grid, strict=True)]
      rows, columns = (
          -(-g // r) for r, g in zip(region, self.grid, strict=True)
      )
      positions = self.param("pos_embed", _init, (rows, columns, size.width))
      for axis, r in enumerate(region):
        positions = positions.repeat(r, axis)
      positions = positions[:self.grid[0], :self.grid[1]]
      if (h, w) != self.grid:
        positions = jax.image.resize(positions, (h, w, size.width), "bilinear")
      x = x + positions.reshape(1, h * w, size.width).astype(self.dtype)
    leading = self._leading_tokens(x.shape[0]) if self.class_token else []
    x = jnp.concatenate([*leading, x], axis=1) if leading else x
    x = nn.Dropout(self.dropout, deterministic=not train)(x)

    def grid_of(x: jax.Array) -> jax.Array:
      return x[:, len(leading):].reshape(-1, h, w, size.width)

    make_block: Callable = nn.remat(Block) if self.remat else Block
    outputs = {0: x}
    for i in range(size.depth):
      x = make_block(
          size.heads, self.dtype, size.exact_gelu, self.dropout,
          self.drop_path * i / max(size.depth - 1, 1), train, name=f"block{i}",
      )(x)
      outputs[i + 1] = x
    x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(x)
    return grid_of(x), tuple(grid_of(outputs[i]) for i in layers)

  def _leading_tokens(self, batch: int) -> list[jax.Array]:
    names = ["class_token"]
    if SIZES[self.size].distilled:
      names.append("distillation_token")
    shape = (1, SIZES[self.size].width)
    return [
        jnp.broadcast_to(
            self.param(name, _init, shape).astype(self.dtype)[None],
            (batch, *shape),
        )
        for name in names
    ]
