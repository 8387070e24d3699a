"""SETR (Zheng et al., CVPR 2021): a ViT encoder and the Naive decoder."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppseg_jax.models.vit import ViT


class NaiveHead(nn.Module):
  """1x1 conv, norm, relu, 1x1 conv: logits for each token on its own.

  Section 3.2, 'Naive upsampling'. On tokens a 1x1 conv is a dense layer.
  """

  num_classes: int
  dtype: jnp.dtype
  width: int = 256

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    b, h, w, width = x.shape
    x = x.reshape(b * h * w, width)
    x = nn.Dense(self.width, dtype=self.dtype, name="conv1")(x)
    # Decay 0.9 is PyTorch's momentum 0.1. Under jit the statistics are those
    # of the global batch, however it is sharded.
    x = nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5,
        dtype=self.dtype, name="norm",
    )(x)
    x = nn.Dense(self.num_classes, dtype=self.dtype, name="conv2")(nn.relu(x))
    return x.reshape(b, h, w, self.num_classes)


class SETR(nn.Module):
  """Images, uint8 [B, H, W, C], to float32 logits [B, H, W, classes].

  Attributes:
    num_classes: of the label space.
    size: a key of `vit.SIZES`.
    patch: patch size P in pixels.
    form: scheme whose canonical form the patch embedding reads; `plain` for
      the usual linear embedding of the pixels.
    block: block size of that form; divides P.
    grid: patches (rows, columns) of the images trained on.
    dtype: of the computation; parameters, softmax and logits are float32.
    remat: recompute each block in the backward pass, to save memory.
  """

  num_classes: int
  size: str
  patch: int
  form: str
  block: int
  grid: tuple[int, int]
  dtype: jnp.dtype = jnp.float32
  remat: bool = False

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    features = ViT(
        self.size, self.patch, self.form, self.block, self.grid, self.dtype,
        self.remat, name="encoder",
    )(images)
    logits = NaiveHead(self.num_classes, self.dtype, name="head")(
        features, train
    )
    shape = (*images.shape[:3], self.num_classes)
    return jax.image.resize(logits.astype(jnp.float32), shape, "bilinear")
