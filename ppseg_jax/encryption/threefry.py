"""Threefry-4x32-20, the keystream that every random choice is read from.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011; constants as in their library Random123. JAX promises no stable values
of its own random functions over versions, so none of them is used: a typed
`threefry4x32` key is a container of 128 bits here and nothing else.

The counter of a block of four words is (block, column, stream, purpose);
docs/encryption.md states the whole format. What does not fit in its words, so
that two random choices would be one, is refused.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption.columns import check_words
from ppseg_jax.errors import UserError

DERIVE, ENCRYPT = 0, 1  # purposes

ROTATIONS = (
    (10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10),
    (18, 20),
)
PARITY = 0x1BD11BDA

OPS = 1 << 8  # of a kind
KINDS = 1 << 24


def threefry(
    key: jax.Array, counter: tuple[jax.Array, ...]
) -> tuple[jax.Array, ...]:
  """20 rounds of Threefry-4x32.

  Args:
    key: uint32 [4].
    counter: four uint32 arrays of shapes that broadcast.

  Returns:
    Four uint32 arrays of the common shape.
  """
  parity = key[0] ^ key[1] ^ key[2] ^ key[3] ^ jnp.uint32(PARITY)
  schedule = jnp.concatenate([key, parity[None]])
  rotations = jnp.asarray(np.array(ROTATIONS, np.uint32).reshape(2, 4, 2))
  counter = jnp.broadcast_arrays(*counter)

  # A loop, not 20 rounds in a row: XLA on a CPU computes each output of a
  # fusion on its own, and each round would double the work.
  def four_rounds(group: jax.Array, x: tuple[jax.Array, ...]):
    x = list(x)
    for r in range(4):
      for word in (0, 2):
        other = (word + (3 if r % 2 else 1)) % 4
        left = rotations[group % 2, r, word // 2]
        x[word] = x[word] + x[other]
        x[other] = x[other] << left | x[other] >> (32 - left)
        x[other] = x[other] ^ x[word]
    x = [word + schedule[(group + 1 + i) % 5] for i, word in enumerate(x)]
    x[3] = x[3] + (group + 1).astype(jnp.uint32)
    return tuple(x)

  x = tuple(c + schedule[i] for i, c in enumerate(counter))
  return jax.lax.fori_loop(0, 5, four_rounds, x)


def stream_number(kind: int, place: int) -> int:
  """Of an op, by its kind and its place among the scheme's ops of its kind."""
  if not 0 <= kind < KINDS:
    raise UserError(f"kind={kind} of an op must be in 0 to {KINDS - 1}.")
  if place >= OPS:
    raise UserError(
        f"a scheme has at most {OPS} ops of one kind ({kind}): the next would"
        " share the random choices of another."
    )
  return OPS * kind + place


@dataclasses.dataclass(frozen=True)
class Stream:
  """An op's own part of an image's keystream.

  Attributes:
    key: uint32 [4], the image's.
    number: of the op: 256 times its kind plus its place among its kind.
    images: how many images are encrypted at once; changes no value.
  """

  key: jax.Array
  number: int
  images: int = 1

  def words(
      self, n: int, columns: jax.Array, draw: int = 0
  ) -> jax.Array:
    """n words for each of the K columns (uint32 [K], numbers), uint32 [n, K].

    Word i of column c is word i // R, of R = ceil(n / 4), in the block of
    counter (draw * 2**24 + i mod R, c, number, ENCRYPT). UserError where the
    counter has no place for them.
    """
    check_words(n, draw)
    rows = -(-n // 4)
    block = jnp.arange(rows, dtype=jnp.uint32)[:, None] + jnp.uint32(draw << 24)
    column = columns.astype(jnp.uint32)[None]
    four = threefry(self.key, (
        block, column, jnp.uint32(self.number), jnp.uint32(ENCRYPT)
    ))
    return jnp.concatenate(four)[:n]

  def bits(self, n: int, columns: jax.Array) -> jax.Array:
    """n bits for each column, the uppermost of its words, bool [n, K]."""
    return self.words(n, columns) >> 31 == 1
