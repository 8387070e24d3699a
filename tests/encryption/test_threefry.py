"""The keystream's limits: what a counter cannot tell apart is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.encryption import (
    NegativePositive,
    PixelShuffle,
    Scheme,
    encrypt,
    fresh_keys,
    key_from_seed,
    reference,
)
from ppseg_jax.encryption.columns import (
    COLUMNS,
    DRAWS,
    WORDS,
    check_columns,
    check_words,
    column_numbers,
)
from ppseg_jax.encryption.permutations import permutation, tie_bits
from ppseg_jax.encryption.threefry import KINDS, OPS, Stream, stream_number
from ppseg_jax.errors import UserError

KEY = np.arange(4, dtype=np.uint32)


def words(n, draw=0):
  """The shape of n words, which are not computed."""
  return jax.eval_shape(
      lambda key, columns: Stream(key, 512).words(n, columns, draw),
      jax.ShapeDtypeStruct((4,), jnp.uint32),
      jax.ShapeDtypeStruct((1,), jnp.uint32),
  ).shape


def test_the_last_block_of_a_draw_is_before_the_first_of_the_next():
  rows = -(-WORDS // 4)
  assert rows == 2**24 and (DRAWS - 1) * 2**24 + rows == 2**32
  assert words(WORDS, DRAWS - 1) == (WORDS, 1)


@pytest.mark.parametrize("n, draw", [
    (WORDS + 1, 0), (WORDS + 1, 3), (1, DRAWS), (1, -1),
])
def test_words_beyond_a_counter_are_refused(n, draw):
  with pytest.raises(UserError, match="than the keystream has"):
    words(n, draw)
  with pytest.raises(UserError, match="do not fit in a counter"):
    reference.words(KEY, 512, 0, n, draw)


def test_a_permutation_of_too_many_is_refused_before_it_is_made():
  stream = Stream(jnp.asarray(KEY), 512)
  with pytest.raises(UserError, match="than the keystream has"):
    permutation(stream, WORDS + 1, column_numbers(1))
  with pytest.raises(UserError, match="do not fit in a counter"):
    reference.permutation(KEY, 512, 0, WORDS + 1)
  assert tie_bits(WORDS) // 32 + 1 <= DRAWS


def test_more_columns_than_a_word_counts_are_refused():
  check_columns(COLUMNS)
  for check in (check_columns, column_numbers):
    with pytest.raises(UserError, match="independent random choices"):
      check(COLUMNS + 1)
  with pytest.raises(UserError, match="do not fit in a counter"):
    reference.words(KEY, 512, COLUMNS, 1)


def test_an_image_with_too_many_bits_a_block_is_refused_by_its_shape():
  scheme = Scheme("test", (NegativePositive("value", "image"),), "", "")
  side = 8192  # 3 * 2**26 values a block
  key = key_from_seed(0)
  with pytest.raises(UserError, match="than the keystream has"):
    jax.eval_shape(
        lambda image: encrypt(scheme, key, image, side),
        jax.ShapeDtypeStruct((side, side, 3), jnp.uint8),
    )
  check_words(1)


def test_streams_of_two_ops_are_never_one():
  numbers = {stream_number(kind, place)
             for kind in range(4) for place in range(OPS)}
  assert len(numbers) == 4 * OPS
  assert stream_number(KINDS - 1, OPS - 1) == 2**32 - 1
  for kind, place in ((-1, 0), (KINDS, 0), (2, OPS)):
    with pytest.raises(UserError):
      stream_number(kind, place)


def test_the_257th_op_of_a_kind_is_refused():
  image = np.zeros((2, 2, 1), np.uint8)
  flip = NegativePositive("block", "image")
  scheme = Scheme("test", (flip,) * 257, "", "")
  with pytest.raises(UserError, match="at most 256 ops of one kind"):
    encrypt(scheme, fresh_keys(1)[0], image, 2)
  with pytest.raises(UserError, match="at most 256 ops"):
    reference.encrypt(scheme, KEY, image, 2)
  # Others do not count.
  mixed = (flip,) * 256 + (PixelShuffle("value", "image"),)
  reference.encrypt(Scheme("test", mixed, "", ""), KEY, image, 2)
