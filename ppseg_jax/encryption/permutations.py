"""Uniform permutations from a keystream, and sorting, without XLA's sort.

The rule, the same on every backend and for every chunk size: a permutation of
n is the order of n random words. With b = bits of n - 1, position i has the
upper 32 - b bits of word i of draw 0 as its key, and positions are ordered by
key, stably. Ties are then broken: the slots of a run of equal keys are ordered
by word of draw 1 at that slot (and draw 2, and so on), stably. `ties(n)` says
how many such draws there are: as few as give every permutation a total
variation distance from uniform below 2**-20. The order of n independent keys
of B bits is exactly uniform unless two are equal, so that the distance is at
most the probability of that, C(n, 2) / 2**B, B = 32 - b + 32 * ties(n).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption.threefry import Stream

_CHUNK_WORDS = 1 << 18  # what is sorted at a time on a CPU, to fit its cache


def position_bits(n: int) -> int:
  return (n - 1).bit_length()


def ties(n: int) -> int:
  """Draws of tie-breaking words that a permutation of n takes."""
  draws = 0
  while n * (n - 1) // 2 << 20 > 1 << (32 - position_bits(n) + 32 * draws):
    draws += 1
  return draws


def permutation(stream: Stream, n: int, columns: jax.Array) -> jax.Array:
  """Independent permutations of 0..n-1, int32 [n, K], for K column numbers."""
  b = position_bits(n)
  position = jnp.arange(n, dtype=jnp.uint32)[:, None]
  mask = jnp.uint32((1 << b) - 1)
  words = stream.words(n, columns)
  packed = words & ~mask | position
  draws = ties(n)
  tie_words = [stream.words(n, columns, 1 + d) for d in range(draws)]
  if (columns.shape[0] < 8 and n > 64) or draws > 1:  # too thin to vectorise
    packed = jax.lax.sort(packed, dimension=0)
    operands = (packed >> b, *tie_words, packed)
    packed = jax.lax.sort(
        operands, dimension=0, is_stable=True, num_keys=1 + draws
    )[-1]
  else:
    packed = sort_leading(packed)
    if draws:
      packed = _break_ties(packed, tie_words[0], b)
  return (packed & mask).astype(jnp.int32)


def _break_ties(packed: jax.Array, words: jax.Array, b: int) -> jax.Array:
  """Sorts each run of equal keys by the words at its slots.

  By odd-even transpositions until nothing moves: runs are nearly always of 2.
  """
  n = packed.shape[0]
  slot = np.arange(n, dtype=np.int32)
  partners = [slot ^ 1, ((slot + 1) ^ 1) - 1]
  partners = [np.where((p >= 0) & (p < n), p, slot) for p in partners]

  def half(state, partner):
    packed, words, _ = state
    other, other_words = _rows(packed, partner), _rows(words, partner)
    first = jnp.asarray(partner >= slot)[:, None]
    swap = (packed >> b == other >> b) & jnp.where(
        first, words > other_words, words < other_words
    )
    return (
        jnp.where(swap, other, packed), jnp.where(swap, other_words, words),
        swap.any(),
    )

  def both(state):
    even = half(state, partners[0])
    odd = half(even, partners[1])
    return odd[0], odd[1], even[2] | odd[2]

  return jax.lax.while_loop(lambda s: s[2], both, (packed, words, True))[0]


def cycle(perm: jax.Array, moved: int) -> jax.Array:
  """A restricted permutation from a full one, [n, K] -> [n, K].

  The positions that the first `moved` rows name go round in that order, each
  taking the value of the next; all others stay, and no one else.
  """
  if not moved:
    return _identity(perm)
  chosen = perm[:moved]
  return jnp.put_along_axis(
      _identity(perm), chosen, jnp.roll(chosen, -1, axis=0), axis=0,
      inplace=False,
  )


def _identity(perm: jax.Array) -> jax.Array:
  positions = jnp.arange(perm.shape[0], dtype=perm.dtype)[:, None]
  return jnp.broadcast_to(positions, perm.shape)


def invert(perm: jax.Array) -> jax.Array:
  """The inverse of each column's permutation, int32 [n, K]."""
  b = position_bits(perm.shape[0])
  if perm.shape[1] < 8:  # a scatter: argsort is far slower on a CPU
    return jnp.put_along_axis(
        jnp.zeros_like(perm), perm, _identity(perm), axis=0, inplace=False
    )
  position = jnp.arange(perm.shape[0], dtype=jnp.uint32)[:, None]
  packed = sort_leading(perm.astype(jnp.uint32) << b | position)
  return (packed & jnp.uint32((1 << b) - 1)).astype(jnp.int32)


def in_chunks(
    function: Callable, values: jax.Array, images: int, width: int
) -> jax.Array:
  """Applies a function to columns, on a CPU to as many as fit its cache.

  Args:
    function: (column numbers uint32 [K], values [n, K, ...]) -> values of the
      same shape, column by column.
    values: [n, columns, ...].
    images: how many are encrypted at once, by vmap.
    width: words of memory a column takes.

  Returns:
    [n, columns, ...].
  """
  n, total, *rest = values.shape
  columns = jnp.arange(total, dtype=jnp.uint32)
  chunk = max(64, _CHUNK_WORDS // (max(images, 1) * width) // 64 * 64)
  if jax.default_backend() != "cpu" or total <= chunk:
    return function(columns, values)
  chunks = -(-total // chunk)
  padding = chunks * chunk - total
  columns = jnp.pad(columns, (0, padding)).reshape(chunks, chunk)
  values = jnp.pad(values, ((0, 0), (0, padding)) + ((0, 0),) * len(rest))
  values = values.reshape(n, chunks, chunk, *rest).swapaxes(0, 1)
  moved = jax.lax.map(lambda args: function(*args), (columns, values))
  return moved.swapaxes(0, 1).reshape(n, -1, *rest)[:, :total]


def _rows(values: jax.Array, index: jax.Array) -> jax.Array:
  return values.at[index].get(mode="promise_in_bounds")


def sort_leading(values: jax.Array) -> jax.Array:
  """Sorts along the leading axis, ascending: [n, ...] of any real dtype.

  A bitonic network: min and max of whole rows, which vectorise over the
  columns on every backend. All its comparisons point upwards, so that rows
  beyond n need not exist. Two layers of the network make one step of a loop;
  without the loop XLA on a CPU would compute every layer again and again.
  """
  n = values.shape[0]
  if n == 1:
    return values
  slot = np.arange(n, dtype=np.int32)
  layers = []
  merged = 1
  while merged < n:
    layers.append(slot ^ (2 * merged - 1))
    run = merged // 2
    while run:
      layers.append(slot ^ run)
      run //= 2
    merged *= 2
  if len(layers) % 2:
    layers.append(slot)
  layers = np.stack([np.where(p < n, p, slot) for p in layers])
  one, two = layers[::2], layers[1::2]
  both = np.take_along_axis(one, two, 1)
  low_one, low_two = one >= slot, two >= slot
  low_other = np.take_along_axis(low_one, two, 1)
  shape = (n,) + (1,) * (values.ndim - 1)

  def compare(low, a, b):
    low = low.reshape(shape)
    return jnp.where(low, jnp.minimum(a, b), jnp.maximum(a, b))

  def step(rows, layer):
    one, two, both, low_one, low_two, low_other = layer
    mine = compare(low_one, rows, _rows(rows, one))
    other = compare(low_other, _rows(rows, two), _rows(rows, both))
    return compare(low_two, mine, other), None

  tables = (one, two, both, low_one, low_two, low_other)
  return jax.lax.scan(step, values, jax.tree.map(jnp.asarray, tables))[0]
