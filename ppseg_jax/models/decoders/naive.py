"""SETR-Naive (Zheng et al., CVPR 2021, section 3.2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppseg_jax.models.decoders.parts import (
    auxiliary_layers,
    layer_norm,
    token_logits,
)


class Naive(nn.Module):
  """Logits for each token on its own; upsampling is all that follows."""

  num_classes: int
  norm: str
  aux: bool
  dtype: jnp.dtype

  per_token = True

  @staticmethod
  def layers(depth: int, aux: bool) -> tuple[int, ...]:
    return auxiliary_layers(depth) if aux else ()

  @nn.compact
  def __call__(
      self, x: jax.Array, layers: tuple[jax.Array, ...], train: bool
  ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    def head(x, prefix=""):
      return token_logits(
          x, self.num_classes, self.norm, train, self.dtype, prefix
      )

    logits = head(x)
    if not (train or self.is_initializing()):
      return logits, ()
    return logits, tuple(
        head(layer_norm(layer, self.dtype, f"aux{i}_input"), f"aux{i}_")
        for i, layer in enumerate(layers)
    )
