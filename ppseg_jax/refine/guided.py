"""The guided filter (He, Sun, Tang, TPAMI 35(6), 2013), colour guide."""

import jax
import jax.numpy as jnp
import numpy as np


def guided_filter(
    images: jax.Array, values: jax.Array, radius: int, eps: float
) -> jax.Array:
  """Each channel of `values` as the mean of local linear models of the colour.

  In every window of side 2 radius + 1 the values are fitted by a linear
  function of the colour, its slope damped by `eps`; a pixel gets the mean of
  what the windows around it say. Windows are cut at the edge of the image.

  Args:
    images: uint8 [B, H, W, 3], the guide.
    values: float32 [B, H, W, K].
    radius: in pixels.
    eps: of colours in 0 to 1, so 0.01 is a standard deviation of 0.1.

  Returns:
    float32 [B, H, W, K].
  """
  guide = images.astype(jnp.float32) / 255
  rows, columns = (_window_sizes(size, radius) for size in guide.shape[1:3])
  count = rows[:, None, None] * columns[:, None]

  def mean(x: jax.Array) -> jax.Array:
    shape = x.shape
    return (_box(x.reshape(*shape[:3], -1), radius) / count).reshape(shape)

  mean_guide, mean_values = mean(guide), mean(values)
  spread = mean(guide[..., :, None] * guide[..., None, :])
  spread -= mean_guide[..., :, None] * mean_guide[..., None, :]
  common = mean(guide[..., :, None] * values[..., None, :])
  common -= mean_guide[..., :, None] * mean_values[..., None, :]
  slope = _solve(spread + eps * jnp.eye(3), common)  # [..., 3, K]
  offset = mean_values - jnp.einsum("...c,...ck->...k", mean_guide, slope)
  return jnp.einsum("...c,...ck->...k", guide, mean(slope)) + mean(offset)


def _solve(a: jax.Array, b: jax.Array) -> jax.Array:
  """x of a x = b, a [..., 3, 3] symmetric and positive, b [..., 3, K].

  By LDL', written out: a program with several batched `jnp.linalg.solve` was
  seen to hang on a CPU of two cores (jaxlib 0.10.2).
  """
  a = a[..., None]
  d0 = a[..., 0, 0, :]
  l1, l2 = a[..., 1, 0, :] / d0, a[..., 2, 0, :] / d0
  d1 = a[..., 1, 1, :] - l1 * a[..., 1, 0, :]
  rest = a[..., 2, 1, :] - l2 * a[..., 1, 0, :]
  l3 = rest / d1
  d2 = a[..., 2, 2, :] - l2 * a[..., 2, 0, :] - l3 * rest
  y0 = b[..., 0, :]
  y1 = b[..., 1, :] - l1 * y0
  y2 = b[..., 2, :] - l2 * y0 - l3 * y1
  x2 = y2 / d2
  x1 = y1 / d1 - l3 * x2
  x0 = y0 / d0 - l1 * x1 - l2 * x2
  return jnp.stack([x0, x1, x2], -2)


def _window_sizes(size: int, radius: int) -> np.ndarray:
  """How many of the pixels of a row each window holds, float32 [size]."""
  at = np.arange(size)
  last = np.minimum(at + radius, size - 1)
  return (last - np.maximum(at - radius, 0) + 1).astype(np.float32)


def _box(x: jax.Array, radius: int) -> jax.Array:
  """Sums over windows of side 2 radius + 1, [B, H, W, C], outside is zero."""
  for axis in (1, 2):
    window = [1, 1, 1, 1]
    window[axis] = 2 * radius + 1
    x = jax.lax.reduce_window(
        x, 0.0, jax.lax.add, window, (1, 1, 1, 1), "SAME"
    )
  return x
