import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppseg_jax.encryption import (
    SCHEMES,
    BlockScramble,
    NegativePositive,
    PixelShuffle,
    Scheme,
    canonical,
    decrypt,
    encrypt,
    fresh_keys,
    key_from_seed,
)
from ppseg_jax.errors import UserError


def scheme_of(*ops):
  return Scheme(name="test", ops=ops, leaks="", source="")


OPS = (
    [BlockScramble()]
    + [PixelShuffle(unit, scope) for unit in ("value", "channel", "pixel")
       for scope in ("image", "block")]
    + [NegativePositive(unit, scope)
       for unit in ("block", "channel", "pixel", "value")
       for scope in ("image", "block")]
)
ALL = list(SCHEMES.values()) + [scheme_of(op) for op in OPS] + [
    scheme_of(BlockScramble(), NegativePositive("value", "block"),
              PixelShuffle("value", "block"), PixelShuffle("pixel", "image"))
]
WITH_CANONICAL = [
    SCHEMES["plain"], SCHEMES["blockwise"], SCHEMES["blockwise_value"],
    scheme_of(PixelShuffle("pixel", "block")),
    scheme_of(NegativePositive("value", "block")),
    scheme_of(NegativePositive("value", "block"),
              PixelShuffle("channel", "block")),
    scheme_of(PixelShuffle("value", "block"),
              NegativePositive("value", "block")),
    scheme_of(PixelShuffle("pixel", "block"),
              NegativePositive("value", "block")),
]

# Few shapes, so that few programs are compiled; many images and keys.
shapes = st.sampled_from([(2, 8, 12, 3, 4), (3, 6, 9, 1, 3)])
def describe(scheme):
  return "+".join(map(str, scheme.ops)) if scheme.name == "test" else (
      scheme.name
  )


seeds = st.integers(0, 2**64 - 1)


def make(shape, seed):
  *size, block = shape
  images = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
  keys = jax.random.split(key_from_seed(seed), size[0])
  return jnp.asarray(images), keys, block


@functools.partial(jax.jit, static_argnums=(0, 3))
def jit_encrypt(scheme, keys, images, block):
  return encrypt(scheme, keys, images, block)


@functools.partial(jax.jit, static_argnums=(0, 3))
def jit_decrypt(scheme, keys, images, block):
  return decrypt(scheme, keys, images, block)


@functools.partial(jax.jit, static_argnums=(0, 2))
def jit_canonical(scheme, images, block):
  return canonical(scheme, images, block)


@pytest.mark.parametrize("scheme", ALL, ids=describe)
@settings(deadline=None, max_examples=8)
@given(shapes, seeds)
def test_decrypt_inverts_encrypt(scheme, shape, seed):
  images, keys, block = make(shape, seed)
  encrypted = jit_encrypt(scheme, keys, images, block)
  assert encrypted.dtype == images.dtype and encrypted.shape == images.shape
  np.testing.assert_array_equal(
      jit_decrypt(scheme, keys, encrypted, block), images
  )


@pytest.mark.parametrize("scheme", ALL, ids=describe)
def test_vmap_equals_loop_and_jit_equals_no_jit(scheme):
  images, keys, block = make((2, 8, 12, 3, 4), 5)
  batch = encrypt(scheme, keys, images, block)
  np.testing.assert_array_equal(
      encrypt(scheme, keys[1], images[1], block), batch[1]
  )
  np.testing.assert_array_equal(
      jit_encrypt(scheme, keys, images, block), batch
  )


@pytest.mark.parametrize("scheme", ALL[1:], ids=describe)
def test_same_key_same_cipher_and_another_key_another(scheme):
  images, _, block = make((1, 32, 32, 3, 4), 6)
  images = jnp.repeat(images, 8, axis=0)
  keys = fresh_keys(8)
  first = np.asarray(encrypt(scheme, keys, images, block))
  again = np.asarray(encrypt(scheme, keys, images, block))
  np.testing.assert_array_equal(first, again)
  assert len({image.tobytes() for image in first}) > 1


@pytest.mark.parametrize("name", ["blockwise", "blockwise_value"])
def test_two_keys_differ_in_nearly_every_block(name):
  images, _, block = make((1, 64, 64, 3, 8), 7)
  one, two = (encrypt(name, fresh_keys(1), images, block) for _ in range(2))
  differ = (one != two).reshape(8, 8, 8, 8, 3).any((1, 3, 4))
  assert differ.mean() > 0.99


def test_an_added_op_leaves_the_other_permutations_alone():
  images, keys, block = make((2, 8, 12, 3, 4), 8)
  shuffle = PixelShuffle("value", "block")
  alone = encrypt(scheme_of(shuffle), keys, images, block)
  after = encrypt(
      scheme_of(shuffle, NegativePositive("block", "block")), keys, images,
      block,
  )
  undone = np.where(np.asarray(after) == np.asarray(alone), after, 255 - after)
  np.testing.assert_array_equal(undone, alone)


def test_image_scope_moves_all_blocks_alike_and_block_scope_does_not():
  ramp = jnp.arange(48, dtype=jnp.uint8).reshape(4, 4, 3)
  image = jnp.tile(ramp, (4, 4, 1))
  key = fresh_keys(1)[0]

  def blocks(name):
    cipher = np.asarray(encrypt(name, key, image, 4))
    cells = cipher.reshape(4, 4, 4, 4, 3).transpose(0, 2, 1, 3, 4)
    return {cell.tobytes() for cell in cells.reshape(16, -1)}

  assert len(blocks("independent")) == 1
  assert len(blocks("blockwise")) == 16


def test_channel_unit_keeps_each_channels_values_and_pixel_unit_each_colour():
  images, keys, block = make((2, 8, 12, 3, 4), 9)
  by_channel = np.asarray(encrypt("blockwise", keys, images, block))
  for c in range(3):
    np.testing.assert_array_equal(
        np.sort(by_channel[0, :4, :4, c].ravel()),
        np.sort(np.asarray(images)[0, :4, :4, c].ravel()),
    )
  by_pixel = encrypt(
      scheme_of(PixelShuffle("pixel", "block")), keys, images, block
  )

  def colours(x):
    return sorted(map(tuple, np.asarray(x)[0, :4, :4].reshape(-1, 3)))

  assert colours(by_pixel) == colours(images)


@pytest.mark.parametrize("scheme", ALL, ids=describe)
def test_float_images_are_encrypted_like_their_bytes(scheme):
  images, keys, block = make((2, 8, 12, 3, 4), 10)
  as_float = jit_encrypt(scheme, keys, images.astype(jnp.float32), block)
  as_bytes = jit_encrypt(scheme, keys, images, block)
  assert as_float.dtype == jnp.float32
  np.testing.assert_array_equal(as_float, as_bytes.astype(jnp.float32))


@pytest.mark.parametrize("scheme", WITH_CANONICAL, ids=describe)
@settings(deadline=None, max_examples=8)
@given(shapes, seeds)
def test_canonical_form_is_the_same_under_every_key(scheme, shape, seed):
  images, keys, block = make(shape, seed)
  encrypted = jit_encrypt(scheme, keys, images, block)
  form = jit_canonical(scheme, images, block)
  blocks = images[0].size // block**2 // images.shape[3]
  assert form.shape == (len(images), blocks, block**2 * images.shape[3])
  np.testing.assert_array_equal(jit_canonical(scheme, encrypted, block), form)


@pytest.mark.parametrize("scheme", WITH_CANONICAL[1:], ids=describe)
def test_same_canonical_form_means_same_distribution_of_ciphertexts(scheme):
  """The leak is the canonical form and no more, on a block of 2x2x1."""
  draws = 4000
  image = jnp.array([[[10], [200]], [[10], [90]]], jnp.uint8)
  twin = encrypt(scheme, key_from_seed(11), image, 2)
  counts = {}
  for column, (plain, seed) in enumerate(((image, 1), (twin, 2))):
    keys = jax.random.split(key_from_seed(seed), draws)
    batch = jnp.broadcast_to(plain, (draws, 2, 2, 1))
    for cipher in np.asarray(jit_encrypt(scheme, keys, batch, 2)):
      counts.setdefault(cipher.tobytes(), [0, 0])[column] += 1
  table = np.array(list(counts.values()))
  expected = table.sum(1, keepdims=True) / 2
  chi_square = ((table - expected) ** 2 / expected).sum()
  degrees = max(len(table) - 1, 1)
  assert chi_square < degrees + 4 * np.sqrt(2 * degrees) + 6


def test_canonical_form_reads_nothing_but_the_stated_leak():
  image = jnp.array([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [0, 1, 2]]], jnp.uint8)
  by_channel = canonical("blockwise", image, 2)[0].reshape(4, 3)
  assert by_channel.tolist() == [[0, 1, 2], [1, 2, 3], [4, 5, 6], [7, 8, 9]]
  by_value = canonical("blockwise_value", image, 2)[0]
  assert by_value.tolist() == sorted(np.asarray(image).ravel().tolist())
  assert canonical("plain", image, 2)[0].tolist() == image.ravel().tolist()


@pytest.mark.parametrize("scheme, why", [
    (SCHEMES["independent"], "scope 'image'"),
    (scheme_of(NegativePositive("value", "image")), "scope 'image'"),
    (scheme_of(BlockScramble()), "BlockScramble"),
    (scheme_of(PixelShuffle("value", "block"), PixelShuffle("pixel", "block")),
     "more than once"),
])
def test_schemes_without_canonical_form_say_why(scheme, why):
  with pytest.raises(UserError, match=why):
    canonical(scheme, jnp.zeros((8, 8, 3), jnp.uint8), 4)


@pytest.mark.parametrize("images, keys, block, message", [
    (np.zeros((2, 8, 10, 3), np.uint8), 2, 4, "8x10 is not a multiple"),
    (np.zeros((8, 8), np.uint8), 1, 4, r"\[H, W, C\]"),
    (np.zeros((2, 8, 8, 3), np.int32), 2, 4, "uint8 or float"),
    (np.zeros((2, 8, 8, 3), np.uint8), 3, 4, "one key an image"),
    (np.zeros((2, 8, 8, 3), np.uint8), 2, 0, "not a multiple"),
])
def test_wrong_arguments_get_one_clear_sentence(images, keys, block, message):
  with pytest.raises(UserError, match=message):
    encrypt("blockwise", fresh_keys(keys), images, block)


def test_wrong_keys_get_one_clear_sentence():
  images = np.zeros((2, 8, 8, 3), np.uint8)
  with pytest.raises(UserError, match="typed jax.random keys"):
    encrypt("blockwise", jnp.zeros((2, 2), jnp.uint32), images, 4)
  with pytest.raises(UserError, match="rbg"):
    keys = jax.random.split(jax.random.key(0, impl="rbg"), 2)
    encrypt("blockwise", keys, images, 4)
  with pytest.raises(UserError, match="none of plain"):
    encrypt("rot13", fresh_keys(2), images, 4)
  with pytest.raises(UserError, match="unit='colour'"):
    PixelShuffle("colour", "block")
