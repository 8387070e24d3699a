"""Integer noise drawn exactly from the keystream of a key, in plain NumPy.

No floating-point number is on the way (Mironov, CCS 2012, says why). The
algorithms are those of Canonne, Kamath, Steinke, "The discrete Gaussian for
differential privacy", NeurIPS 2020, for many numbers at a time.
"""

import math
from fractions import Fraction

import jax
import numpy as np

from ppseg_jax.encryption.threefry import DERIVE, ENCRYPT, PARITY, ROTATIONS
from ppseg_jax.errors import UserError

# Of the keystream: no op has this number, nor do keys for noise encrypt.
_NOISE, _FOLD = 0xFFFFFFFF, 0x6E6F6973
_ROWS = 1 << 12  # blocks of four words at a time
_LARGEST = 2**40  # of a numerator: what is made of it stays below 2**63


def threefry(key: np.ndarray, counter: tuple) -> list[np.ndarray]:
  """As `threefry.threefry`, of NumPy arrays: what reads data has no device."""
  key = [*key, np.bitwise_xor.reduce(key) ^ np.uint32(PARITY)]
  x = [np.atleast_1d(np.asarray(c, np.uint32)) for c in counter]
  x = [word.copy() + k for word, k in
       zip(np.broadcast_arrays(*x), key, strict=False)]
  for r in range(20):
    pairs = ((0, 3), (2, 1)) if r % 2 else ((0, 1), (2, 3))
    for (a, b), left in zip(pairs, ROTATIONS[r % 8], strict=True):
      x[a] += x[b]
      low = x[b] >> np.uint32(32 - left)
      x[b] <<= np.uint32(left)
      x[b] |= low
      x[b] ^= x[a]
    if r % 4 == 3:
      group = r // 4 + 1
      for i, word in enumerate(x):
        word += key[(group + i) % 5]
      x[3] += np.uint32(group)
  return x


def derive(key: jax.Array, *data: int) -> jax.Array:
  """As `keys.derive`, of integers, without a device: typed key []."""
  words = np.asarray(jax.random.key_data(key))
  for item in data:
    words = np.concatenate(threefry(words, (item, 0, 0, DERIVE)))
  return jax.random.wrap_key_data(words, impl="threefry4x32")


class Words:
  """Uniform integers from the keystream of a key, typed []."""

  def __init__(self, key: jax.Array):
    self._key = np.asarray(jax.random.key_data(derive(key, _FOLD)))
    self._column = 0
    self._left = np.empty(0, np.uint64)

  def take(self, count: int) -> np.ndarray:
    """The next words of 64 bits, uint64 [count]."""
    parts, found = [self._left], len(self._left)
    while found < count:
      words = np.concatenate(threefry(
          self._key, (np.arange(_ROWS), self._column, _NOISE, ENCRYPT)
      ))
      parts.append(words.view(np.uint64))
      found += len(parts[-1])
      self._column += 1
    words = np.concatenate(parts) if len(parts) > 1 else self._left
    taken, self._left = words[:count], words[count:]
    return taken

  def below(self, limit: int, count: int) -> np.ndarray:
    """Uniform integers in 0 to limit - 1, exactly; int64 [count]."""
    drawn = self.take(count)
    # From the largest multiple of the limit on they are drawn again.
    last = np.uint64(2**64 - 1 - 2**64 % limit)
    while (again := drawn > last).any():
      drawn = drawn.copy()
      drawn[again] = self.take(int(again.sum()))
    return (drawn % np.uint64(limit)).astype(np.int64)

  def chance(self, over: np.ndarray, under: int) -> np.ndarray:
    """True with probability over / under, integers of any size; bool [n].

    A uniform number of ever more words is compared with the fraction.
    """
    if under < 2**63:
      return self.below(under, len(over)) < over
    true = np.zeros(len(over), bool)
    waiting, over = np.arange(len(over)), over.astype(object)
    while len(waiting):
      digits, over = (over << 64) // under, (over << 64) % under
      words = self.take(len(waiting)).astype(object)
      true[waiting] = words < digits
      equal = (words == digits).astype(bool)
      waiting, over = waiting[equal], over[equal]
    return true


def bernoulli_exp(words: Words, over: np.ndarray, under: int) -> np.ndarray:
  """True with probability exp(-over / under), over in 0 to under; bool [n].

  Algorithm 1 of Canonne et al.: the parity of how long a chance of
  over / (under k), k = 1, 2, ..., comes true.
  """
  odd = np.ones(len(over), bool)
  running, k = np.arange(len(over)), 1
  while len(running):
    running = running[words.chance(over[running], under * k)]
    odd[running] ^= True
    k += 1
  return odd


def discrete_laplace(
    words: Words, scale: Fraction | int, count: int
) -> np.ndarray:
  """int64 [count], P(y) proportional to exp(-|y| / scale).

  Algorithm 2 of Canonne et al. Raises UserError for a scale whose fraction has
  too large numbers.
  """
  t, s = Fraction(scale).as_integer_ratio()
  if not 0 < t <= _LARGEST:
    raise UserError(
        f"noise of scale {float(scale):g} is not drawn here; use a larger"
        " epsilon of fewer digits, or fewer pixels."
    )
  found = [np.empty(0, np.int64)]
  while (missing := count - sum(map(len, found))) > 0:
    u = words.below(t, 2 * missing + 8)  # not all are taken
    u = u[bernoulli_exp(words, u, t)]
    y = (u + t * _in_a_row(words, len(u))) // s
    negative = words.take(len(y)) >> np.uint64(63) == 1
    found.append(np.where(negative, -y, y)[~(negative & (y == 0))])
  return np.concatenate(found)[:count]


def _in_a_row(words: Words, count: int) -> np.ndarray:
  """How often a chance of exp(-1) comes true before it fails, int64 [count]."""
  ends = np.array([-1])  # where it fails
  tried = 0
  while (missing := count + 1 - len(ends)) > 0:
    more = 2 * missing + 8
    came_true = bernoulli_exp(words, np.ones(more, np.int64), 1)
    ends = np.append(ends, tried + np.flatnonzero(~came_true))
    tried += more
  return np.diff(ends)[:count] - 1


def discrete_gaussian(
    words: Words, variance: Fraction | int, count: int
) -> np.ndarray:
  """int64 [count], P(y) proportional to exp(-y^2 / (2 variance)).

  Algorithm 3 of Canonne et al.: discrete Laplace of scale t, taken with
  probability exp(-(|y| - variance / t)^2 / (2 variance)).
  """
  n, d = Fraction(variance).as_integer_ratio()
  t = math.isqrt(n // d) + 1
  under = 2 * n * d * t * t
  out = np.empty(count, np.int64)
  waiting = np.arange(count)
  while len(waiting):
    y = discrete_laplace(words, t, len(waiting))
    over = (abs(y).astype(object) * (d * t) - n) ** 2
    # exp(-1) as often as 1 is in it, in a row.
    good = _in_a_row(words, len(y)) >= (over // under).astype(np.int64)
    good[good] = bernoulli_exp(words, over[good] % under, under)
    out[waiting[good]] = y[good]
    waiting = waiting[~good]
  return out
