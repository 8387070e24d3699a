"""SETR-MLA, multi-level aggregation (Zheng et al., CVPR 2021, section 3.2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppseg_jax.models.decoders.parts import (
    conv_norm,
    enlarge,
    layer_norm,
    to_logits,
)


class MLA(nn.Module):
  """Four layers, evenly spaced, each reduced, summed from the deepest up.

  Each level: 1x1 conv to 256, the sum of it and all deeper ones, a 3x3 conv,
  two more to 128, x4. The levels are put together, the deepest first, and a
  1x1 conv gives the logits. That conv comes before the x4, with which it
  commutes. Auxiliary heads are a 1x1 conv on each level's 256 channels.
  """

  num_classes: int
  norm: str = "batch"
  aux: bool = False
  dtype: jnp.dtype = jnp.float32
  width: int = 256

  per_token = False

  def layers(self, depth: int) -> tuple[int, ...]:
    """All but the deepest, which is the encoder's normalised output."""
    return depth // 4, depth // 2, 3 * depth // 4

  @nn.compact
  def __call__(
      self, x: jax.Array, layers: tuple[jax.Array, ...], train: bool
  ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    def conv(x, width, kernel, name):
      return conv_norm(x, width, kernel, self.norm, train, self.dtype, name)

    def classify(x, name):
      return to_logits(x, self.num_classes, self.dtype, name)

    levels = [
        layer_norm(layer, self.dtype, f"level{i}_input")
        for i, layer in enumerate(layers)
    ]
    total, merged, streams = 0, [], []
    for i, level in reversed(list(enumerate([*levels, x]))):
      total += conv(level, self.width, 1, f"level{i}_conv0")
      merged.append(conv(total, self.width, 3, f"level{i}_conv1"))
      stream = conv(merged[-1], self.width // 2, 3, f"level{i}_conv2")
      streams.append(conv(stream, self.width // 2, 3, f"level{i}_conv3"))
    logits = classify(jnp.concatenate(streams, axis=-1), "classify")
    aux = ()
    if self.aux and (train or self.is_initializing()):
      aux = tuple(
          classify(level, f"aux{i}_classify")
          for i, level in enumerate(reversed(merged))
      )
    return enlarge(logits, 4), aux
