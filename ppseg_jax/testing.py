"""Checks of an encryption scheme, for the tests of whoever writes one.

    from ppseg_jax.testing import check_scheme

    def test_my_scheme():
      check_scheme(mine)
"""

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption import (
    Scheme,
    canonical,
    canonical_steps,
    decrypt,
    encrypt,
    get_scheme,
    key_from_seed,
)
from ppseg_jax.encryption.keys import derive
from ppseg_jax.encryption.ops import NibbleSplit
from ppseg_jax.encryption.schemes import from_blocks, to_blocks
from ppseg_jax.errors import UserError


def check_scheme(
    scheme: str | Scheme, block: int = 4, draws: int = 4000, seed: int = 0
) -> None:
  """Raises AssertionError, naming what fails, unless the scheme is sound.

  Decryption gives back the very pixels; encryption is deterministic, the same
  under vmap, jit and sharding (where there are devices to shard over) as
  without, keeps shape and dtype, and gives
  other ciphertexts under other keys; with scope `block`, other blocks get other
  random choices. Where there is a canonical form, no key changes it, and on
  tiny blocks two images of the same form have the same distribution of
  ciphertexts over many keys (chi-square): then the leak is exactly the form.

  A scheme that cannot be decrypted (UserError) is checked for the rest; one
  without canonical form likewise.

  Args:
    scheme: its name or object.
    block: the side of the blocks it is tried on.
    draws: keys of the distribution test.
    seed: of everything random here.
  """
  scheme = get_scheme(scheme)
  rng = np.random.default_rng(seed)
  images = jnp.asarray(
      rng.integers(0, 256, (8, 4 * block, 4 * block, 3), np.uint8)
  )
  keys = _keys(seed, len(images))
  jitted = jax.jit(lambda k, x: encrypt(scheme, k, x, block))
  cipher = jitted(keys, images)
  name = f"scheme '{scheme.name}'"

  if cipher.shape != images.shape or cipher.dtype != images.dtype:
    raise AssertionError(
        f"{name} does not keep shape and dtype: {images.dtype}{images.shape}"
        f" became {cipher.dtype}{cipher.shape}."
    )
  _equal(jitted(keys, images), cipher, f"{name} is not deterministic.")
  _equal(encrypt(scheme, keys[0], images[0], block), cipher[0],
         f"{name} is not the same with and without jit.")
  for i in (0, len(images) - 1):
    _equal(jitted(keys[i], images[i]), cipher[i],
           f"{name} is not the same for one image and a batch (vmap).")
  _check_sharded(scheme, keys, images, cipher, block, name)
  _check_inverse(scheme, keys, images, cipher, block, name)
  _check_keys_separate(scheme, jitted, images[0], seed, name)
  _check_blocks_separate(scheme, jitted, block, seed, name)
  _check_canonical(scheme, images, cipher, block, draws, seed, name)


def _keys(seed: int, n: int) -> jax.Array:
  root = key_from_seed(seed)
  return jax.vmap(lambda i: derive(root, i))(jnp.arange(n))


def _equal(a: jax.Array, b: jax.Array, message: str) -> None:
  if not np.array_equal(np.asarray(a), np.asarray(b)):
    raise AssertionError(message)


def _check_sharded(scheme, keys, images, cipher, block, name) -> None:
  """On as many devices as there are; nothing to check on one."""
  count = max(n for n in (1, 2, 4, 8) if n <= jax.device_count())
  if count == 1:
    return
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), "data")
  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  sharded = jax.jit(
      lambda k, x: encrypt(scheme, k, x, block), in_shardings=(place, place),
      out_shardings=place,
  )(keys, images)
  _equal(sharded, cipher, f"{name} is not the same when sharded.")


def _check_inverse(scheme, keys, images, cipher, block, name) -> None:
  try:
    plain = jax.jit(lambda k, x: decrypt(scheme, k, x, block))(keys, cipher)
  except UserError:
    return  # says itself that it cannot be undone
  _equal(plain, images, f"{name} is not inverted by decrypt.")


def _check_keys_separate(scheme, jitted, image, seed, name) -> None:
  if not scheme.ops:
    return
  ciphers = np.asarray(
      jitted(_keys(seed + 1, 8), jnp.broadcast_to(image, (8, *image.shape)))
  )
  if len({cipher.tobytes() for cipher in ciphers}) < 4:
    raise AssertionError(
        f"{name} gives the same ciphertext under different keys."
    )


def _check_blocks_separate(scheme, jitted, block, seed, name) -> None:
  """Equal blocks must not stay equal where every op has scope `block`."""
  flat = [
      inner for op in scheme.ops
      for inner in (op.ops if isinstance(op, NibbleSplit) else (op,))
  ]
  inside = [op for op in flat if getattr(op, "scope", "") == "block"]
  if not inside or len(inside) < sum(hasattr(op, "scope") for op in flat):
    return
  rng = np.random.default_rng(seed)
  one = rng.integers(0, 256, (block, block, 3), np.uint8)
  image = jnp.asarray(np.tile(one, (4, 4, 1)))
  cipher = jitted(key_from_seed(seed), image)
  blocks = np.asarray(to_blocks(cipher, block)).transpose(1, 0, 2)
  # Of 16 blocks with 2 choices or more each, not all make the same.
  if len({each.tobytes() for each in blocks}) < 2:
    raise AssertionError(
        f"{name} makes the same random choice for every block, though its ops"
        " say scope 'block'."
    )


def _check_canonical(scheme, images, cipher, block, draws, seed, name) -> None:
  try:
    canonical_steps(scheme)
  except UserError:
    return
  form = jax.jit(lambda x: canonical(scheme, x, block))
  _equal(form(cipher), form(images),
         f"{name} changes its canonical form under a key.")
  # Two channels show what mixes or orders them; where they give too many
  # ciphertexts to count each, one channel sharpens the test.
  if not _check_distribution(scheme, 2, draws, seed, name):
    _check_distribution(scheme, 1, draws, seed, name)


def _check_distribution(scheme, channels, draws, seed, name) -> bool:
  """Two images of the same form, of two blocks (or regions) of 2x2 pixels.

  Returns whether every ciphertext came often enough to be counted.
  """
  height, width = (
      max((getattr(op, side, 0) for op in scheme.ops), default=0)
      for side in ("height", "width")
  )
  shape = (2 * (height or 1), 4 * (width or 1), channels)
  plain = np.zeros(shape, np.uint8)
  plain[0, 0] = 200
  plain[0, 1, -1] = 90
  batched = jax.jit(lambda k, x: encrypt(scheme, k, x, 2))
  form = jax.jit(lambda x: canonical(scheme, x, 2))

  def ciphers(image, seed, count=draws):
    batch = jnp.broadcast_to(image, (count, *shape))
    return np.asarray(batched(_keys(seed, count), batch))

  first = ciphers(plain, seed + 20)
  twin = _twin(form, jnp.asarray(plain), first[0])
  second = ciphers(twin, seed + 21)
  counts = _counts(first, second)
  all_counted = len(counts) <= draws / 20
  if not all_counted:  # the first block alone
    counts = _counts(first[:, :2, :2], second[:, :2, :2])
  often = counts.sum(1) >= 10
  rare = counts[~often].sum(0, keepdims=True)
  counts = np.concatenate([counts[often], rare[rare.sum(1) > 0]])
  expected = counts.sum(1, keepdims=True) / 2
  chi_square = ((counts - expected) ** 2 / expected).sum()
  degrees = max(len(counts) - 1, 1)
  if chi_square > degrees + 5 * np.sqrt(2 * degrees) + 12:
    raise AssertionError(
        f"{name} leaks more than its canonical form: two images of the same"
        " form have different distributions of ciphertexts (chi-square"
        f" {chi_square:.0f} at {degrees} degrees of freedom)."
    )
  return all_counted


def _counts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """How often each ciphertext is in either batch, [ciphertexts, 2]."""
  table: dict[bytes, list[int]] = {}
  for column, batch in enumerate((first, second)):
    for each in batch:
      table.setdefault(each.tobytes(), [0, 0])[column] += 1
  return np.array(list(table.values()), np.float64)


def _twin(form, plain: jax.Array, cipher: np.ndarray) -> jax.Array:
  """Another image of the same form: the blocks backwards, or a ciphertext."""
  backwards = from_blocks(to_blocks(plain, 2)[::-1], 2, *plain.shape[:2])
  for image in (backwards, jnp.asarray(cipher)):
    if np.array_equal(form(image), form(plain)):
      return image
  return plain
