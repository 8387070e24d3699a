"""What a client knows of where blocks went, and the map put together."""

import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.encryption import (
    SCHEMES,
    BlockScramble,
    NegativePositive,
    PixelShuffle,
    Scheme,
    encrypt,
    fresh_keys,
    key_from_seed,
    layout,
)
from ppseg_jax.encryption.probe import block_order, signed_permutation
from ppseg_jax.encryption.schemes import hide_layout
from ppseg_jax.errors import UserError

BLOCK = 8


def scheme_of(*ops):
  return Scheme(name="test", ops=ops, leaks="", source="")


def test_the_probe_says_what_the_cipher_does():
  scheme = scheme_of(
      BlockScramble(), NegativePositive(unit="value", scope="image"),
      PixelShuffle(unit="value", scope="image"),
  )
  key = key_from_seed(8)
  cipher = signed_permutation(scheme, key, 48, 64, BLOCK)
  assert 0.3 < cipher.negative.mean() < 0.7
  noise = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)

  def blocks(image):
    cells = image.reshape(6, BLOCK, 8, BLOCK, 3).transpose(0, 2, 1, 3, 4)
    return cells.reshape(48, -1)

  moved = blocks(noise)[cipher.blocks][:, cipher.values]
  np.testing.assert_array_equal(
      blocks(np.asarray(encrypt(scheme, key, noise, BLOCK))),
      np.where(cipher.negative, 255 - moved, moved),
  )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_block_order_is_found_whatever_a_scheme_does_inside_blocks(scheme):
  hidden = hide_layout(scheme)
  key = fresh_keys(1)[0]
  order = block_order(hidden, key, 72, 64, BLOCK)
  assert sorted(order) == list(range(72))
  bare = scheme_of(BlockScramble())
  if not any(isinstance(op, BlockScramble) for op in SCHEMES[scheme].ops):
    np.testing.assert_array_equal(order, block_order(bare, key, 72, 64, BLOCK))


def test_a_scheme_that_leaves_blocks_in_place_has_them_in_order():
  order = block_order("blockwise", fresh_keys(1)[0], 72, 64, BLOCK)
  np.testing.assert_array_equal(order, np.arange(72))


def test_a_scheme_that_mixes_blocks_has_no_block_order():
  class Mix:
    kind = 99

    def encrypt(self, stream, blocks, grid, top=255):
      return blocks.at[0].set(jnp.roll(blocks[0], 1, axis=0))

  with pytest.raises(UserError, match="values of a block together"):
    block_order(scheme_of(Mix()), key_from_seed(0), 16, 24, BLOCK)


def test_logits_of_another_number_of_blocks_are_refused():
  with pytest.raises(UserError, match="48 blocks of 8"):
    layout.assemble(
        np.zeros((47, 19)), "blockwise", key_from_seed(1), 48, 64, BLOCK
    )
