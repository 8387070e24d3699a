"""Checks of an encryption scheme, for the tests of whoever writes one.

    from ppseg_jax.testing import check_scheme

    def test_my_scheme():
      check_scheme(mine)
"""

import itertools

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
    ops_of,
    takes_key,
)
from ppseg_jax.encryption.blocks import from_blocks, to_blocks
from ppseg_jax.encryption.keys import derive
from ppseg_jax.encryption.ops import NibbleSplit, dihedral, join, split
from ppseg_jax.errors import UserError


def check_scheme(
    scheme: str | Scheme, block: int = 4, draws: int = 4000, seed: int = 0
) -> None:
  """Raises AssertionError, naming what fails, unless the scheme is sound.

  Decryption gives back the very pixels; encryption is deterministic, the same
  under vmap, jit and sharding (where there are devices to shard over) as
  without, keeps shape and dtype, and gives other
  ciphertexts under other keys; with scope `block`, blocks get random
  choices that do not go together. Where there is a canonical form, no key
  changes it, and on tiny blocks images of the same form, as far apart as it
  allows, have the same distribution of ciphertexts over many keys (chi-square,
  of whole ciphertexts where they can be counted and of any two of their
  values): then the leak is the form, as far as so many draws can tell.

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
  if not takes_key(scheme):
    return
  ciphers = np.asarray(
      jitted(_keys(seed + 1, 8), jnp.broadcast_to(image, (8, *image.shape)))
  )
  if len({cipher.tobytes() for cipher in ciphers}) < 2:
    raise AssertionError(
        f"{name} gives the same ciphertext under different keys."
    )


def _check_blocks_separate(scheme, jitted, block, seed, name) -> None:
  """Equal blocks must not stay equal where every op has scope `block`."""
  scopes = {op.scope for op in ops_of(scheme) if hasattr(op, "scope")}
  if scopes != {"block"}:
    return
  rng = np.random.default_rng(seed)
  one = rng.integers(0, 256, (block, block, 3), np.uint8)
  image = jnp.asarray(np.tile(one, (4, 4, 1)))
  ciphers = jitted(
      _keys(seed + 2, 64), jnp.broadcast_to(image, (64, *image.shape))
  )
  blocks = np.asarray(jax.vmap(lambda x: to_blocks(x, block))(ciphers))
  blocks = np.ascontiguousarray(blocks.transpose(0, 2, 1, 3))
  number = {}
  made = np.array([  # the same number where the same came out, [keys, blocks]
      [number.setdefault(each.tobytes(), len(number)) for each in row]
      for row in blocks
  ])
  if (made == made[:, :1]).all():
    raise AssertionError(
        f"{name} makes the same random choice for every block, though its ops"
        " say scope 'block'."
    )
  # How often two independent choices agree, from one place under two keys.
  by_chance = np.mean([(made == np.roll(made, i, 0)).mean() for i in (1, 2, 3)])
  together = (made[:, :, None] == made[:, None]).mean(0)
  np.fill_diagonal(together, 0)
  limit = by_chance + 7 * np.sqrt(by_chance / 64) + 0.1
  if together.max() > limit:
    i, j = np.unravel_index(together.argmax(), together.shape)
    raise AssertionError(
        f"{name} makes the same random choice for blocks {i} and {j} in"
        f" {together.max():.0%} of cases ({by_chance:.0%} by chance), though"
        " its ops say scope 'block'."
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
  """An image of two tiny blocks (or regions), and others of the same form.

  Returns whether every ciphertext came often enough to be counted.
  """
  ops = ops_of(scheme)
  side = max(2, *(getattr(op, "cell", 0) for op in ops), 0)
  height, width = (
      max((getattr(op, way, 0) for op in ops), default=0) or 1
      for way in ("height", "width")
  )
  shape = (side * height, 2 * side * width, channels)
  plain = np.zeros(shape, np.uint8)
  plain[0, 0] = 200
  plain[0, 1, -1] = 90
  batched = jax.jit(lambda k, x: encrypt(scheme, k, x, side))
  form = jax.jit(lambda x: canonical(scheme, x, side))

  def ciphers(image, seed):
    batch = jnp.broadcast_to(jnp.asarray(image), (draws, *shape))
    return np.asarray(batched(_keys(seed, draws), batch))

  first = ciphers(plain, seed + 20)
  all_counted = True
  for number in range(2):
    twin = _twin(scheme, form, plain, side, seed + number)
    second = ciphers(twin, seed + 21 + number)
    counts = _counts(first, second)
    all_counted &= len(counts) <= draws / 20
    tables = [counts] if all_counted else []
    # Where ciphertexts are too many to count, any two of their values.
    values, places = np.unique(np.stack([first, second]), return_inverse=True)
    places = places.reshape(2, draws, -1)  # of each value in `values`
    kinds = len(values)
    for i, j in itertools.combinations(range(places.shape[-1]), 2):
      tables.append(np.stack([
          np.bincount(pair, minlength=kinds**2)
          for pair in kinds * places[..., i] + places[..., j]
      ], axis=1))
    for table in tables:
      check_same_distribution(table, name)
  return all_counted


def check_same_distribution(counts: np.ndarray, name: str) -> None:
  """Chi-square of [kinds, 2], rare kinds taken together; AssertionError."""
  often = counts.sum(1) >= 10
  rare = counts[~often].sum(0, keepdims=True)
  counts = np.concatenate([counts[often], rare[rare.sum(1) > 0]])
  expected = counts.sum(1, keepdims=True) / 2
  chi_square = ((counts - expected) ** 2 / expected).sum()
  degrees = max(len(counts) - 1, 1)
  if chi_square > degrees + 5 * np.sqrt(2 * degrees) + 20:
    raise AssertionError(
        f"{name} leaks more than its canonical form: two images of the same"
        " form have different distributions of ciphertexts (chi-square"
        f" {chi_square:.0f} at {degrees} degrees of freedom)."
    )


def _counts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """How often each value is in either batch, [values, 2]."""
  table: dict[bytes, list[int]] = {}
  for column, batch in enumerate((first, second)):
    for each in batch:
      table.setdefault(each.tobytes(), [0, 0])[column] += 1
  return np.array(list(table.values()), np.float64)


def _twin(
    scheme: Scheme, form, plain: np.ndarray, side: int, seed: int
) -> np.ndarray:
  """Another image of the same form, as far away as forms allow.

  All moves are tried one after another; those that change no form are made.
  """
  rng = np.random.default_rng(seed)
  halves = bool(ops_of(scheme, NibbleSplit))
  top = 15 if halves else 255

  def negated(*axes):
    def move(x):  # a random bit for each index of these axes
      size = [n if axis in axes else 1 for axis, n in enumerate(x.shape)]
      return np.where(rng.random(size) < 0.5, top - x, x)
    return move

  def any_values(x):
    p, n, c = x.shape
    mixed = rng.permuted(x.transpose(1, 0, 2).reshape(n, p * c), axis=1)
    return mixed.reshape(n, p, c).transpose(1, 0, 2)

  def each_block(move):
    return lambda x: np.stack(
        [move(x[:, i]) for i in range(x.shape[1])], axis=1
    )

  def carrying_form(x):  # which a level makes of many images
    if halves:
      return x
    p, n, c = x.shape
    return np.asarray(form(image)).reshape(n, p, c).transpose(1, 0, 2)

  moves = (
      carrying_form,
      lambda x: rng.permuted(x, axis=0),  # each channel on its own
      any_values,
      each_block(lambda x: rng.permutation(x, axis=0)),  # whole pixels
      each_block(lambda x: x[rng.choice(dihedral(side))]),
      lambda x: rng.permuted(x, axis=2),  # channels of each pixel
      each_block(lambda x: rng.permutation(x, axis=1)),
      negated(0, 1, 2), negated(0, 1), negated(1, 2), negated(1),
      lambda x: rng.permutation(x, axis=1),  # blocks
  )
  wanted = np.asarray(form(plain))
  image = plain
  for move in moves:
    x = to_blocks(jnp.asarray(image), side)
    x = np.asarray(split(x) if halves else x)
    x = jnp.asarray(move(x).astype(np.uint8))
    x = join(x) if halves else x
    moved = np.asarray(from_blocks(x, side, *plain.shape[:2]))
    if np.array_equal(form(moved), wanted):
      image = moved
  return image
