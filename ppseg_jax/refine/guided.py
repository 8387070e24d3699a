"""The guided filter (He, Sun, Tang, TPAMI 35(6), 2013), colour guide."""

import jax
import jax.numpy as jnp


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
  count = _box(jnp.ones((1, *guide.shape[1:3], 1)), radius)

  def mean(x: jax.Array) -> jax.Array:
    shape = x.shape
    return (_box(x.reshape(*shape[:3], -1), radius) / count).reshape(shape)

  mean_guide, mean_values = mean(guide), mean(values)
  spread = mean(guide[..., :, None] * guide[..., None, :])
  spread -= mean_guide[..., :, None] * mean_guide[..., None, :]
  common = mean(guide[..., :, None] * values[..., None, :])
  common -= mean_guide[..., :, None] * mean_values[..., None, :]
  slope = jnp.linalg.solve(spread + eps * jnp.eye(3), common)  # [..., 3, K]
  offset = mean_values - jnp.einsum("...c,...ck->...k", mean_guide, slope)
  return jnp.einsum("...c,...ck->...k", guide, mean(slope)) + mean(offset)


def _box(x: jax.Array, radius: int) -> jax.Array:
  """Sums over windows of side 2 radius + 1, [B, H, W, C], outside is zero."""
  for axis in (1, 2):
    window = [1, 1, 1, 1]
    window[axis] = 2 * radius + 1
    x = jax.lax.reduce_window(
        x, 0.0, jax.lax.add, window, (1, 1, 1, 1), "SAME"
    )
  return x
