"""Permutations from a key's keystream, and sorting, without XLA's sort."""

import jax
import jax.numpy as jnp


def _multiply_high(a: jax.Array, b: jax.Array) -> jax.Array:
  """Upper 32 bits of the 64-bit product of two uint32."""
  a_hi, a_lo = a >> 16, a & 0xFFFF
  b_hi, b_lo = b >> 16, b & 0xFFFF
  cross = a_hi * b_lo + ((a_lo * b_lo) >> 16)  # below 2**32: no overflow
  low = a_lo * b_hi + (cross & 0xFFFF)
  return a_hi * b_hi + (cross >> 16) + (low >> 16)


def _below(words: jax.Array, n: jax.Array) -> jax.Array:
  """floor(w * n / 2**64) of 64-bit words w = (high, low), uint32 [2, ...].

  With one 32-bit word a draw, a permutation of 768 would be 2**-15 away from
  uniform; with 64 bits it is below 2**-46 (total variation, sum of n / 2**65).
  """
  low = words[0] * n
  carry = low + _multiply_high(words[1], n) < low
  return _multiply_high(words[0], n) + carry


def permutations(key: jax.Array, n: int, columns: int) -> jax.Array:
  """Independent uniform permutations of 0..n-1, int32 [n, columns].

  Fisher-Yates over all columns at once, from the last position down: at
  position i of column c it swaps i with floor(w * (i + 1) / 2**64), where w is
  the 64-bit word (bits[0, i, c], bits[1, i, c]) of the key's keystream.
  Positions lead, so that a step of the loop touches whole rows.
  """
  bits = jax.random.bits(key, (2, n, columns), jnp.uint32)
  column = jnp.arange(columns)

  def swap(step: jax.Array, perm: jax.Array) -> jax.Array:
    i = n - 1 - step
    j = _below(bits[:, i], (i + 1).astype(jnp.uint32)).astype(jnp.int32)
    at_i, at_j = perm[i], perm[j, column]
    return perm.at[j, column].set(at_i).at[i].set(at_j)

  identity = jnp.broadcast_to(
      jnp.arange(n, dtype=jnp.int32)[:, None], (n, columns)
  )
  return jax.lax.fori_loop(0, n - 1, swap, identity)


def invert(perm: jax.Array) -> jax.Array:
  """The inverse of each column's permutation, int32 [n, ...]."""
  # A scatter: argsort is far slower on CPU.
  positions = jnp.arange(perm.shape[0], dtype=perm.dtype)
  positions = positions.reshape((-1,) + (1,) * (perm.ndim - 1))
  return jnp.put_along_axis(
      jnp.zeros_like(perm), perm, jnp.broadcast_to(positions, perm.shape),
      axis=0, inplace=False,
  )


def sort_leading(values: jax.Array) -> jax.Array:
  """Sorts along the leading axis, ascending: [n, ...] of any real dtype.

  A bitonic network: min and max of whole rows, which vectorise over the
  columns on every backend. For blocks it is 7 to 18 times faster than jnp.sort
  on a CPU (64 to 768 values, uint8), and its result depends on nothing else.
  """
  n = values.shape[0]
  size = 1 << (n - 1).bit_length()
  if jnp.issubdtype(values.dtype, jnp.floating):
    largest = jnp.inf
  else:
    largest = jnp.iinfo(values.dtype).max
  padding = jnp.full((size - n,) + values.shape[1:], largest, values.dtype)
  rows = jnp.concatenate([values, padding])

  def compare(rows: jax.Array, run: int, mirrored: bool) -> jax.Array:
    pairs = rows.reshape((size // (2 * run), 2, run) + rows.shape[1:])
    low, high = pairs[:, 0], pairs[:, 1]
    if mirrored:
      high = high[:, ::-1]
    low, high = jnp.minimum(low, high), jnp.maximum(low, high)
    if mirrored:
      high = high[:, ::-1]
    return jnp.stack([low, high], axis=1).reshape(rows.shape)

  merged = 1
  while merged < size:
    rows = compare(rows, merged, mirrored=True)
    run = merged // 2
    while run:
      rows = compare(rows, run, mirrored=False)
      run //= 2
    merged *= 2
  return rows[:n]
