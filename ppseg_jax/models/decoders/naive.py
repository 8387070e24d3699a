"""SETR-Naive (Zheng et al., CVPR 2021, section 3.2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppseg_jax.models.decoders.parts import (
    auxiliary_layers,
    layer_norm,
    normalise,
)


class Naive(nn.Module):
  """Logits for each token on its own; upsampling is all that follows."""

  num_classes: int
  norm: str = "batch"
  aux: bool = False
  dtype: jnp.dtype = jnp.float32

  per_token = True

  def layers(self, depth: int) -> tuple[int, ...]:
    return auxiliary_layers(depth) if self.aux else ()

  @nn.compact
  def __call__(
      self, x: jax.Array, layers: tuple[jax.Array, ...], train: bool
  ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    def head(x, prefix=""):
      return _token_logits(
          x, self.num_classes, self.norm, train, self.dtype, prefix
      )

    logits = head(x)
    if not (train or self.is_initializing()):
      return logits, ()
    return logits, tuple(
        head(layer_norm(layer, self.dtype, f"aux{i}_input"), f"aux{i}_")
        for i, layer in enumerate(layers)
    )


def _token_logits(
    x: jax.Array,
    num_classes: int,
    norm: str,
    train: bool,
    dtype: jnp.dtype,
    prefix: str = "",
    width: int = 256,
) -> jax.Array:
  """1x1 conv, norm, relu, 1x1 conv, inside a module: [B, h, w, D or K].

  On tokens a 1x1 conv is a dense layer.
  """
  b, h, w, d = x.shape
  x = nn.Dense(width, dtype=dtype, name=f"{prefix}conv1")(x.reshape(-1, d))
  x = normalise(
      x.reshape(b, h, w, width), norm, train, dtype, f"{prefix}norm"
  )
  x = nn.relu(x).reshape(-1, width)
  x = nn.Dense(num_classes, dtype=dtype, name=f"{prefix}conv2")(x)
  return x.reshape(b, h, w, num_classes)
