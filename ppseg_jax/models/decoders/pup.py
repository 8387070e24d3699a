"""SETR-PUP, progressive upsampling (Zheng et al., CVPR 2021, section 3.2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppseg_jax.models.decoders.parts import (
    auxiliary_layers,
    conv_norm,
    enlarge,
    layer_norm,
    to_logits,
)


class PUP(nn.Module):
  """Four 3x3 convs, each followed by x2, and a 1x1 conv to logits.

  The 1x1 conv comes before the last x2: the two commute, and so the largest
  array is of logits rather than of features. With patches of 8 the image's size
  is reached there, and the last x2 is left out.
  """

  num_classes: int
  norm: str = "batch"
  aux: bool = False
  dtype: jnp.dtype = jnp.float32
  width: int = 256

  per_token = False

  def layers(self, depth: int) -> tuple[int, ...]:
    """The paper has an auxiliary head on the last layer too."""
    return (*auxiliary_layers(depth), depth) if self.aux else ()

  @nn.compact
  def __call__(
      self, x: jax.Array, layers: tuple[jax.Array, ...], train: bool
  ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    def conv(x, name):
      return conv_norm(x, self.width, 3, self.norm, train, self.dtype, name)

    def classify(x, name):
      return to_logits(x, self.num_classes, self.dtype, name)

    x = conv(x, "conv0")
    for i in (1, 2, 3):
      x = conv(enlarge(x, 2), f"conv{i}")
    logits = classify(x, "classify")
    if not (train or self.is_initializing()):
      return logits, ()
    aux = []
    for i, layer in enumerate(layers):
      layer = layer_norm(layer, self.dtype, f"aux{i}_input")
      x = classify(conv(layer, f"aux{i}_conv0"), f"aux{i}_classify")
      aux.append(enlarge(x, 4))
    return logits, tuple(aux)
