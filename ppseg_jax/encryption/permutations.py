"""Uniform permutations from a keystream, and sorting, without XLA's sort.

The rule, the same on every backend and for every chunk size: a permutation of
n is the order of n random words. With b = bits of n - 1, position i has the
upper 32 - b bits of word i of draw 0 as its key, and positions are ordered by
key, stably. Ties are then broken: the slots of a run of equal keys are ordered
by `tie_bits(n)` further bits of each slot, stably: none, 16 (the words of draw
1, n / 2 of them, upper halves first), 32 (draw 1) or more (draws 1, 2, ...).

How far that is from uniform: had the ties that are left been broken by coins,
it would be exactly uniform, and the order would differ from ours only where a
tied pair comes out inverted. So the total variation distance is at most half
the expected number of tied pairs, C(n, 2) / 2**(B + 1) of keys of B = 32 - b +
tie_bits(n) bits, and `tie_bits` is chosen to keep that below 2**-20.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption.columns import Words, check_words, column_numbers

_CHUNK_WORDS = 1 << 16  # what is sorted at a time on a CPU, to fit its cache


def position_bits(n: int) -> int:
  return (n - 1).bit_length()


def tie_bits(n: int) -> int:
  """Bits a slot, beyond the 32 - b of its key, that a permutation takes."""
  bits = 0
  while n * (n - 1) // 2 << 20 > 1 << (33 - position_bits(n) + bits):
    bits = 16 if bits == 0 else 32 if bits == 16 else bits + 32
  return bits


def _tie_words(stream: Words, n: int, columns: jax.Array) -> list[jax.Array]:
  bits = tie_bits(n)
  if bits == 16:
    words = stream.words(-(-n // 2), columns, 1)
    return [jnp.concatenate([words >> 16, words & jnp.uint32(0xFFFF)])[:n]]
  return [stream.words(n, columns, 1 + d) for d in range(bits // 32)]


def permutation(stream: Words, n: int, columns: jax.Array) -> jax.Array:
  """Independent permutations of 0..n-1, int32 [n, K], for K column numbers.

  Raises UserError for an n beyond the keystream's 2**26.
  """
  check_words(n)
  b = position_bits(n)
  position = jnp.arange(n, dtype=jnp.uint32)[:, None]
  mask = jnp.uint32((1 << b) - 1)
  packed = stream.words(n, columns) & ~mask | position
  ties = _tie_words(stream, n, columns)
  if (columns.shape[0] < 8 and n > 64) or len(ties) > 1:  # thin: no vectors
    packed = jax.lax.sort(packed, dimension=0)
    packed = jax.lax.sort(
        (packed >> b, *ties, packed), dimension=0, is_stable=True,
        num_keys=1 + len(ties),
    )[-1]
  else:
    packed = sort_leading(packed)
    if ties:
      packed = _break_ties(packed, ties[0], b)
  return (packed & mask).astype(jnp.int32)


def _break_ties(packed: jax.Array, words: jax.Array, b: int) -> jax.Array:
  """Sorts each run of equal keys by the words at its slots, stably.

  Nearly always all runs are pairs, and one pass does it. If any is longer,
  odd-even transpositions go on until nothing moves.
  """
  n = packed.shape[0]
  slot = np.arange(n, dtype=np.int32)
  before, after = np.maximum(slot - 1, 0), np.minimum(slot + 1, n - 1)

  def swaps(packed, words, partner):
    """Whether each slot takes what is at its partner's."""
    other, other_words = _rows(packed, partner), _rows(words, partner)
    first = jnp.asarray(partner >= slot)[:, None]
    return (packed >> b == other >> b) & jnp.where(
        first, words > other_words, words < other_words
    )

  pairs = jnp.where(
      swaps(packed, words, after), _rows(packed, after),
      jnp.where(swaps(packed, words, before), _rows(packed, before), packed),
  )
  long = (packed[2:] >> b == packed[:-2] >> b).any()

  def half(state, parity):
    packed, words, _ = state
    partner = ((slot + parity) ^ 1) - parity
    partner = np.where((partner >= 0) & (partner < n), partner, slot)
    swap = swaps(packed, words, partner)
    return (
        jnp.where(swap, _rows(packed, partner), packed),
        jnp.where(swap, _rows(words, partner), words), swap.any(),
    )

  def both(state):
    even = half(state, 0)
    odd = half(even, 1)
    return odd[0], odd[1], even[2] | odd[2]

  runs = jax.lax.while_loop(lambda s: s[2], both, (packed, words, long))[0]
  return jnp.where(long, runs, pairs)


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
  # A scatter: argsort is far slower on a CPU for few columns, and above 2**16
  # places two of them do not fit in a word.
  if perm.shape[1] < 8 or 2 * b > 32:
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
  columns = column_numbers(total)
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
