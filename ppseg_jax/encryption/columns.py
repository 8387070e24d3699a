"""Columns of random words: how many there are, and what they are read from.

Ops and permutations need no key, only words that somebody gives them: the
client's come from `threefry.Stream`, and nothing that merely reads a canonical
form imports that.
"""

from typing import Protocol

import jax
import jax.numpy as jnp

from ppseg_jax.errors import UserError

WORDS = 1 << 26  # of a column in a draw: 2**24 blocks of four
DRAWS = 1 << 8  # of a column: 2**32 blocks
COLUMNS = 1 << 32  # of a stream


class Words(Protocol):
  """What random choices are read from, see `threefry.Stream`."""

  images: int

  def words(
      self, n: int, columns: jax.Array, draw: int = 0
  ) -> jax.Array: ...

  def bits(self, n: int, columns: jax.Array) -> jax.Array: ...


def check_words(n: int, draw: int = 0) -> None:
  """Raises UserError unless a column has n words in this draw."""
  if n > WORDS or not 0 <= draw < DRAWS:
    raise UserError(
        f"{n} random words of one column in draw {draw} are more than the"
        f" keystream has, {WORDS} in each of {DRAWS} draws; use smaller blocks"
        " or images."
    )


def check_columns(count: int) -> None:
  """Raises UserError unless a stream has so many columns."""
  if count > COLUMNS:
    raise UserError(
        f"{count} independent random choices in one op are more than the"
        f" keystream has, {COLUMNS}; use a smaller image or larger cells."
    )


def column_numbers(count: int) -> jax.Array:
  """The numbers of the first `count` columns, uint32 [count]."""
  check_columns(count)
  return jnp.arange(count, dtype=jnp.uint32)
