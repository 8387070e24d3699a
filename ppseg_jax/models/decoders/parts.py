"""What decoders are put together from."""

import flax.linen as nn
import jax
import jax.numpy as jnp

NORMS = ("batch", "group")


def normalise(
    x: jax.Array, kind: str, train: bool, dtype: jnp.dtype, name: str
) -> jax.Array:
  """BatchNorm or GroupNorm of 32 groups, on [B, h, w, C], inside a module."""
  if kind == "group":
    return nn.GroupNorm(32, epsilon=1e-5, dtype=dtype, name=name)(x)
  # Decay 0.9 is PyTorch's momentum 0.1. Under jit the statistics are those
  # of the global batch, however it is sharded.
  return nn.BatchNorm(
      use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype,
      name=name,
  )(x)


def auxiliary_layers(depth: int) -> tuple[int, int, int]:
  """The layers, from 1, that the auxiliary heads of Naive and PUP read.

  10, 15, 20 of 24 in the paper; quarters of other depths, as the authors have
  it for the base size.
  """
  if depth == 24:
    return 10, 15, 20
  return depth // 4, depth // 2, 3 * depth // 4


def layer_norm(x: jax.Array, dtype: jnp.dtype, name: str) -> jax.Array:
  """Of a layer's raw output, inside a module; the last one comes normalised."""
  return nn.LayerNorm(epsilon=1e-6, dtype=dtype, name=name)(x)


def to_logits(
    x: jax.Array, num_classes: int, dtype: jnp.dtype, name: str
) -> jax.Array:
  """A 1x1 conv inside a module: float32 [B, h, w, K]."""
  x = nn.Dense(num_classes, dtype=dtype, name=name)(x)
  return x.astype(jnp.float32)


def conv_norm(
    x: jax.Array,
    width: int,
    kernel: int,
    norm: str,
    train: bool,
    dtype: jnp.dtype,
    name: str,
) -> jax.Array:
  """Square conv without bias, norm, relu, inside a module: [B, h, w, width]."""
  x = nn.Conv(
      width, (kernel, kernel), use_bias=False, dtype=dtype, name=name
  )(x)
  return nn.relu(normalise(x, norm, train, dtype, f"{name}_norm"))


def enlarge(x: jax.Array, factor: int) -> jax.Array:
  """[B, h, w, C] -> [B, h * factor, w * factor, C], bilinear."""
  b, h, w, c = x.shape
  return jax.image.resize(x, (b, h * factor, w * factor, c), "bilinear")
