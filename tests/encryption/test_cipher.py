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
    ColourShuffle,
    NegativePositive,
    NibbleSplit,
    PixelShuffle,
    RotateFlip,
    Scheme,
    canonical,
    decrypt,
    encrypt,
    fresh_keys,
    key_from_seed,
    permutations,
    representative,
)
from ppseg_jax.errors import UserError


def scheme_of(*ops):
  return Scheme(name="test", ops=ops, leaks="", source="")


OPS = (
    [BlockScramble(), BlockScramble(height=1), BlockScramble(fraction=0.5),
     RotateFlip("image"), RotateFlip("block"), RotateFlip("block", cell=1),
     PixelShuffle("value", "block", cell=1),
     PixelShuffle("pixel", "block", fraction=0.5),
     ColourShuffle("block", "image"), ColourShuffle("pixel", "image"),
     NibbleSplit((PixelShuffle("channel", "block"),))]
    + [PixelShuffle(unit, scope) for unit in ("value", "channel", "pixel")
       for scope in ("image", "block")]
    + [NegativePositive(unit, scope)
       for unit in ("block", "channel", "pixel", "value")
       for scope in ("image", "block")]
)
_LOSES = ("etc_madono", "hao2025_mix")  # what no key brings back
INVERTIBLE = [s for s in SCHEMES.values() if s.name not in _LOSES]
_SAME = ("kiya2022", "sueyoshi2025")  # the cipher of independent
INVERTIBLE = [s for s in INVERTIBLE if s.name not in _SAME]
ALL = INVERTIBLE + [scheme_of(op) for op in OPS] + [
    scheme_of(BlockScramble(), NegativePositive("value", "block"),
              PixelShuffle("value", "block"), PixelShuffle("pixel", "image"))
]
WITH_CANONICAL = [
    s for s in SCHEMES.values()
    if s.name.startswith("blockwise") or s.name in ("plain", "ele", "pe", "etc")
] + [scheme_of(*ops) for ops in (
    (NegativePositive("value", "block"),),
    (NegativePositive("block", "block"), PixelShuffle("value", "block")),
    (NegativePositive("channel", "block"), ColourShuffle("block", "block"),
     PixelShuffle("channel", "block")),
    (NegativePositive("pixel", "block"), ColourShuffle("pixel", "block"),
     PixelShuffle("pixel", "block")),
    (NegativePositive("pixel", "block"), RotateFlip("block")),
    (PixelShuffle("pixel", "block"), ColourShuffle("block", "block")),
    (RotateFlip("block"), ColourShuffle("pixel", "block")),
    (RotateFlip("block", cell=1), PixelShuffle("channel", "block", cell=1),
     RotateFlip("block"), BlockScramble(height=1)),
    (PixelShuffle("value", "block"), PixelShuffle("pixel", "block"),
     ColourShuffle("pixel", "block")),
)]

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
@settings(deadline=None, max_examples=4)
@given(shapes, seeds)
def test_decrypt_inverts_encrypt(scheme, shape, seed):
  images, keys, block = make(shape, seed)
  encrypted = jit_encrypt(scheme, keys, images, block)
  assert encrypted.dtype == images.dtype and encrypted.shape == images.shape
  np.testing.assert_array_equal(
      jit_decrypt(scheme, keys, encrypted, block), images
  )


@pytest.mark.parametrize(
    "name", [s.name for s in INVERTIBLE if s.name != "plain"]
)
def test_two_keys_differ_in_nearly_every_block(name):
  images, _, block = make((1, 64, 64, 3, 8), 7)
  one, two = (
      jit_encrypt(SCHEMES[name], fresh_keys(1), images, block) for _ in range(2)
  )
  differ = (one != two).reshape(8, 8, 8, 8, 3).any((1, 3, 4))
  assert differ.mean() > 0.99


def test_an_op_without_a_part_of_the_keystream_is_refused():
  class Nameless:
    def encrypt(self, stream, blocks, grid, top=255):
      return blocks

  image = np.zeros((8, 8, 3), np.uint8)
  with pytest.raises(UserError, match="Nameless has no number `kind`"):
    encrypt(scheme_of(Nameless()), key_from_seed(0), image, 4)


def test_an_added_op_leaves_the_other_permutations_alone():
  images, keys, block = make((2, 8, 12, 3, 4), 8)
  shuffle = PixelShuffle("value", "block")
  alone = jit_encrypt(scheme_of(shuffle), keys, images, block)
  after = jit_encrypt(
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


@pytest.mark.parametrize("scheme", [scheme_of(op) for op in (
    BlockScramble(), PixelShuffle("value", "block"), RotateFlip("block"),
    NegativePositive("value", "block"), ColourShuffle("pixel", "block"),
)], ids=describe)
def test_float_images_are_encrypted_like_their_bytes(scheme):
  images, keys, block = make((2, 8, 12, 3, 4), 10)
  as_float = jit_encrypt(scheme, keys, images.astype(jnp.float32), block)
  as_bytes = jit_encrypt(scheme, keys, images, block)
  assert as_float.dtype == jnp.float32
  np.testing.assert_array_equal(as_float, as_bytes.astype(jnp.float32))


@pytest.mark.parametrize("scheme", WITH_CANONICAL, ids=describe)
@settings(deadline=None, max_examples=4)
@given(seeds)
def test_canonical_form_is_the_same_under_every_key(scheme, seed):
  images, keys, block = make((2, 8, 12, 3, 4), seed)
  encrypted = jit_encrypt(scheme, keys, images, block)
  form = jit_canonical(scheme, images, block)
  blocks = images[0].size // block**2 // images.shape[3]
  assert form.shape == (len(images), blocks, block**2 * images.shape[3])
  np.testing.assert_array_equal(jit_canonical(scheme, encrypted, block), form)


def laid_out(form, shape, block):
  """Each block's form in its place, [B, H, W, C]."""
  b, h, w, c = shape
  cells = np.reshape(form, (b, h // block, w // block, block, block, c))
  return cells.swapaxes(2, 3).reshape(shape)


@pytest.mark.parametrize("scheme", WITH_CANONICAL, ids=describe)
def test_a_form_laid_out_as_an_image_has_that_form(scheme):
  """So that it can be sent in the place of a ciphertext."""
  images, _, block = make((2, 8, 12, 3, 4), 3)
  form = jit_canonical(scheme, images, block)
  again = jit_canonical(scheme, laid_out(form, images.shape, block), block)
  np.testing.assert_array_equal(again, form)


def test_the_representative_is_the_form_laid_out():
  images, _, block = make((2, 8, 12, 3, 4), 3)
  made = jax.jit(lambda x: representative("blockwise", x, block))(images)
  form = jit_canonical(SCHEMES["blockwise"], images, block)
  np.testing.assert_array_equal(made, laid_out(form, images.shape, block))
  one = representative("plain", images[0], block)
  np.testing.assert_array_equal(one, images[0])


def test_canonical_form_reads_nothing_but_the_stated_leak():
  image = jnp.array([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [0, 1, 2]]], jnp.uint8)
  by_channel = canonical("blockwise", image, 2)[0].reshape(4, 3)
  assert by_channel.tolist() == [[0, 1, 2], [1, 2, 3], [4, 5, 6], [7, 8, 9]]
  by_value = canonical("blockwise_value", image, 2)[0]
  assert by_value.tolist() == sorted(np.asarray(image).ravel().tolist())
  assert canonical("plain", image, 2)[0].tolist() == image.ravel().tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_scrambled_blocks_are_sorted_by_all_their_values(dtype):
  rng = np.random.default_rng(2)
  # Few values, so that blocks differ late, and some not at all.
  image = rng.integers(0, 2, (12, 15, 3)).astype(dtype)
  image[:3, :6] = 1
  in_place = np.asarray(canonical("blockwise", image, 3))
  found = canonical("blockwise_scrambled", image, 3)
  np.testing.assert_array_equal(found, in_place[np.lexsort(in_place.T[::-1])])


@pytest.mark.parametrize("scheme, why", [
    (SCHEMES["independent"], "scope 'image'"),
    (scheme_of(NegativePositive("value", "image")), "scope 'image'"),
    (scheme_of(BlockScramble(fraction=0.5)), "fraction=1"),
    (SCHEMES["etc_madono"], "overwriting"),
    (scheme_of(NegativePositive("pixel", "block"),
               PixelShuffle("value", "block")), "no group"),
    (scheme_of(ColourShuffle("pixel", "block"),
               PixelShuffle("channel", "block")), "no group"),
])
def test_schemes_without_canonical_form_say_why(scheme, why):
  with pytest.raises(UserError, match=why):
    canonical(scheme, jnp.zeros((8, 8, 3), jnp.uint8), 4)


def test_what_an_unknown_op_leaves_is_not_claimed_to_be_known():
  class Flip:
    kind = 100

    def encrypt(self, stream, blocks, grid, top=255):
      return blocks[::-1]

  image = np.zeros((8, 8, 3), np.uint8)
  for ops in ((Flip(),), (NibbleSplit((BlockScramble(),)),)):
    with pytest.raises(UserError, match="no canonical form"):
      canonical(scheme_of(*ops), image, 4)


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


@pytest.mark.parametrize("name", [
    "blockwise", "blockwise_value", "blockwise_pixel", "kiya2022"
])
def test_pure_permutations_keep_the_histogram_and_move_any_float(name):
  index = jnp.arange(16 * 24 * 3, dtype=jnp.float32).reshape(16, 24, 3)
  cipher = encrypt(name, key_from_seed(12), index, 8)
  np.testing.assert_array_equal(np.sort(cipher.ravel()), index.ravel())


@pytest.mark.parametrize("op, unit, share", [
    (BlockScramble(fraction=76 / 196), 4 * 4 * 3, 76 / 196),
    (PixelShuffle("value", "image", fraction=0.25), 1, 0.25),
    (PixelShuffle("value", "block", fraction=268 / 768), 1, 268 / 768),
])
def test_restricted_permutations_move_exactly_the_stated_share(op, unit, share):
  index = jnp.arange(56 * 56 * 3, dtype=jnp.float32).reshape(56, 56, 3)
  moved = encrypt(scheme_of(op), key_from_seed(13), index, 4) != index
  places = 196 if unit > 1 else 48
  units = index.size // unit // places
  assert moved.sum() == round(share * places) * units * unit


def test_a_single_position_cannot_move_and_is_refused():
  scheme = scheme_of(PixelShuffle("pixel", "block", fraction=0.06))
  with pytest.raises(UserError, match="cannot move alone"):
    encrypt(scheme, key_from_seed(0), np.zeros((8, 8, 3), np.uint8), 4)


def test_scrambling_in_bands_keeps_every_block_in_its_band():
  rows = jnp.arange(8, dtype=jnp.float32).repeat(4)[:, None, None]
  image = jnp.broadcast_to(rows, (32, 32, 1))
  bands = scheme_of(BlockScramble(height=2))
  cipher = np.asarray(encrypt(bands, key_from_seed(14), image, 4))
  np.testing.assert_array_equal(cipher // 2, image // 2)
  assert (cipher != image).any()


def test_half_bytes_are_split_and_joined_exactly():
  image = jnp.arange(256, dtype=jnp.float32).reshape(16, 16, 1)
  scheme, key = SCHEMES["ele"], key_from_seed(15)
  cipher = jit_encrypt(scheme, key, image, 4)
  np.testing.assert_array_equal(jit_decrypt(scheme, key, cipher, 4), image)
  as_bytes = jit_encrypt(scheme, key, image.astype(jnp.uint8), 4)
  np.testing.assert_array_equal(cipher, as_bytes)


def test_a_cipher_that_loses_channels_refuses_to_decrypt():
  image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
  cipher = np.asarray(encrypt("etc_madono", key_from_seed(0), image, 4))
  assert (np.ptp(cipher.astype(int), -1) < np.ptp(image.astype(int), -1)).any()
  with pytest.raises(UserError, match="cannot be decrypted"):
    decrypt("etc_madono", key_from_seed(0), cipher, 4)


def test_the_permutation_does_not_depend_on_the_chunks(monkeypatch):
  image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
  key = key_from_seed(16)
  whole = encrypt("blockwise", key, image, 4)
  monkeypatch.setattr(permutations, "_CHUNK_WORDS", 1)
  np.testing.assert_array_equal(encrypt("blockwise", key, image, 4), whole)
