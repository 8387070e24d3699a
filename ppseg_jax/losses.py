"""Losses, in float32."""

import jax
import jax.numpy as jnp

from ppseg_jax.data.labels import VOID


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Mean cross-entropy over the pixels that are not void, float32 [].

  Args:
    logits: [B, H, W, K].
    labels: int [B, H, W], train ids or VOID.
  """
  logits = logits.astype(jnp.float32)
  # A one-hot product: on a CPU its gradient is faster than a gather's.
  one_hot = jax.nn.one_hot(labels, logits.shape[-1])  # all zero for void
  per_pixel = jax.nn.logsumexp(logits, -1) - (logits * one_hot).sum(-1)
  counted = labels != VOID
  total = jnp.where(counted, per_pixel, 0).sum()
  return total / jnp.maximum(counted.sum(), 1)
