"""Mixed sub-patches: a mean without a key, which nothing brings back."""

import numpy as np
import pytest

from ppseg_jax.encryption import (
    canonical,
    decrypt,
    encrypt,
    get_scheme,
    key_from_seed,
    reference,
)
from ppseg_jax.encryption.blocks import split
from ppseg_jax.encryption.mix import Mix
from ppseg_jax.errors import UserError

NAME, BLOCK = "hao2025_mix", 4


def drawn():
  return np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)


def test_every_quarter_of_a_block_becomes_the_mean_of_all_four():
  image = drawn()
  mixed = np.asarray(encrypt(NAME, key_from_seed(0), image, BLOCK))
  block = image[4:8, 8:12].astype(int)
  mean = np.floor((block[:2, :2] + block[:2, 2:] + block[2:, :2]
                   + block[2:, 2:]) / 4 + 0.5)
  np.testing.assert_array_equal(mixed[4:8, 8:12], np.tile(mean, (2, 2, 1)))


def test_no_key_is_needed_and_the_mix_is_its_own_form():
  image = drawn()
  one, other = (
      np.asarray(encrypt(NAME, key_from_seed(seed), image, BLOCK))
      for seed in (0, 1)
  )
  np.testing.assert_array_equal(one, other)
  blocks = split(one[None], BLOCK)[0].reshape(6, -1)
  np.testing.assert_array_equal(canonical(NAME, image, BLOCK), blocks)
  np.testing.assert_array_equal(canonical(NAME, one, BLOCK), blocks)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_reference_mixes_alike(parts):
  image, op = drawn(), Mix(parts)
  blocks = split(image[None], BLOCK)[0].reshape(6, BLOCK**2, 3)
  mixed = np.asarray(op.encrypt(None, blocks.transpose(1, 0, 2), (2, 3)))
  np.testing.assert_array_equal(
      mixed.transpose(1, 0, 2), reference.mix(op, blocks)
  )


@pytest.mark.parametrize("made, said", [
    (lambda: decrypt(NAME, key_from_seed(0), drawn(), BLOCK), "no key brings"),
    (lambda: encrypt(NAME, key_from_seed(0), drawn()[:3, :3], 3), "multiple"),
    (lambda: encrypt(NAME, key_from_seed(0), drawn() / 2, BLOCK), "uint8"),
    (lambda: Mix(0), "parts=0"),
])
def test_what_cannot_be_mixed_or_brought_back_is_refused(made, said):
  with pytest.raises(UserError, match=said):
    made()


def test_what_shuffled_patches_leave_to_see_is_said():
  shuffled = get_scheme("plain_hidden")
  assert shuffled.hidden and "every block as it is" in shuffled.leaks
