"""Schemes, a name and a tuple of ops; encryption and canonical form."""

import dataclasses
from collections import Counter
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ppseg_jax.encryption import ops
from ppseg_jax.encryption.keys import derive
from ppseg_jax.encryption.permutations import sort_leading
from ppseg_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Scheme:
  """An encryption scheme.

  Attributes:
    name: as configs and files call it.
    ops: applied in this order under the image's key.
    leaks: what the ciphertext still shows, in a sentence.
    source: where the scheme is from.
  """

  name: str
  ops: tuple[ops.BlockScramble | ops.PixelShuffle | ops.NegativePositive, ...]
  leaks: str
  source: str


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            name="plain",
            ops=(),
            leaks="The image.",
            source="No encryption; the reference.",
        ),
        # The paper's two pages name the cipher by citing the authors' IEEE
        # Access 2025 paper, which we could not read: one permutation of all
        # M*M*C values, the same for every block, is what we took.
        Scheme(
            name="independent",
            ops=(ops.PixelShuffle(unit="value", scope="image"),),
            leaks="The whole image up to one permutation of M*M*C positions,"
            " which its own blocks determine: broken by ciphertext alone.",
            source="Hirose, Imaizumi, Kiya, arXiv 2604.16523 (uncertain).",
        ),
        Scheme(
            name="blockwise",
            ops=(ops.PixelShuffle(unit="channel", scope="block"),),
            leaks="For each block, at its place, the histogram of each channel"
            " (so a mosaic of block means); nothing else.",
            source="ppseg_jax.",
        ),
        Scheme(
            name="blockwise_value",
            ops=(ops.PixelShuffle(unit="value", scope="block"),),
            leaks="For each block, at its place, one histogram of its values,"
            " the channels mixed; nothing else.",
            source="ppseg_jax.",
        ),
    )
}


def get_scheme(scheme: str | Scheme) -> Scheme:
  """The scheme of that name, or the scheme itself; UserError if unknown."""
  if isinstance(scheme, Scheme):
    return scheme
  if scheme not in SCHEMES:
    raise UserError(f"scheme='{scheme}' is none of {', '.join(SCHEMES)}.")
  return SCHEMES[scheme]


def to_blocks(image: jax.Array, block: int) -> jax.Array:
  """[H, W, C] -> [M*M, N, C], positions and blocks in row-major order."""
  h, w, c = image.shape
  cells = image.reshape(h // block, block, w // block, block, c)
  return cells.transpose(1, 3, 0, 2, 4).reshape(block * block, -1, c)


def from_blocks(
    blocks: jax.Array, block: int, height: int, width: int
) -> jax.Array:
  """[M*M, N, C] -> [H, W, C]: the inverse of `to_blocks`."""
  grid = (block, block, height // block, width // block, blocks.shape[-1])
  cells = blocks.reshape(grid).transpose(2, 0, 3, 1, 4)
  return cells.reshape(height, width, blocks.shape[-1])


def check_size(shape: tuple[int, ...], block: int) -> None:
  """Raises UserError unless images [..., H, W, C] divide into blocks."""
  height, width = shape[-3:-1]
  if block < 1 or height < 1 or width < 1 or height % block or width % block:
    raise UserError(
        f"image size {height}x{width} is not a multiple of the block size"
        f" {block}; resize, crop or pad the image, or choose another block."
    )


def _check(keys: jax.Array | None, images: jax.Array, block: int) -> None:
  if images.ndim not in (3, 4):
    raise UserError(
        "images must be [H, W, C] or [B, H, W, C], but the shape is"
        f" {images.shape}."
    )
  if images.dtype != jnp.uint8 and not jnp.issubdtype(
      images.dtype, jnp.floating
  ):
    raise UserError(
        f"images must be uint8 or float in 0 to 255, not {images.dtype}."
    )
  check_size(images.shape, block)
  if keys is None:
    return
  if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
    raise UserError(
        f"keys must be typed jax.random keys, not {keys.dtype} values; make"
        " them with ppseg_jax.encryption.fresh_keys."
    )
  if jax.random.key_impl(keys) in ("rbg", "unsafe_rbg"):
    raise UserError(
        "keys of implementation 'rbg' give every image of a batch the first"
        " image's key; make them with ppseg_jax.encryption.fresh_keys."
    )
  if keys.shape != images.shape[:-3]:
    raise UserError(
        f"keys of shape {keys.shape} do not fit images of shape"
        f" {images.shape}: one key an image is needed."
    )


def _op_keys(scheme: Scheme, key: jax.Array) -> list[jax.Array]:
  """A key for each op, by its kind and its place among those of its kind."""
  seen = Counter()
  keys = []
  for op in scheme.ops:
    keys.append(derive(key, op.stream, seen[op.stream]))
    seen[op.stream] += 1
  return keys


def _per_image(function: Callable, *arrays: jax.Array) -> jax.Array:
  """Calls the function on one image, or maps it over a batch of them."""
  return (jax.vmap(function) if arrays[-1].ndim == 4 else function)(*arrays)


def encrypt(
    scheme: str | Scheme, keys: jax.Array, images: jax.Array, block: int = 16
) -> jax.Array:
  """Encrypts each image under its own key.

  Args:
    scheme: its name or object.
    keys: typed `jax.random` keys, [B] (or [] for one image).
    images: uint8 or float (0 to 255) [B, H, W, C] (or [H, W, C]); H and W
      multiples of `block`.
    block: the side M of a block in pixels.

  Returns:
    Encrypted images of the same shape and dtype.

  Raises:
    UserError: for an unknown scheme, a wrong size, dtype or kind of key.
  """
  scheme = get_scheme(scheme)
  _check(keys, images, block)

  def one(key: jax.Array, image: jax.Array) -> jax.Array:
    blocks = to_blocks(image, block)
    for op, op_key in zip(scheme.ops, _op_keys(scheme, key), strict=True):
      blocks = op.encrypt(op_key, blocks)
    return from_blocks(blocks, block, *image.shape[:2])

  return _per_image(one, keys, jnp.asarray(images))


def decrypt(
    scheme: str | Scheme, keys: jax.Array, images: jax.Array, block: int = 16
) -> jax.Array:
  """Undoes `encrypt`, to the last bit on uint8; arguments and errors alike."""
  scheme = get_scheme(scheme)
  _check(keys, images, block)

  def one(key: jax.Array, image: jax.Array) -> jax.Array:
    blocks = to_blocks(image, block)
    op_keys = _op_keys(scheme, key)
    for op, op_key in zip(scheme.ops[::-1], op_keys[::-1], strict=True):
      blocks = op.decrypt(op_key, blocks)
    return from_blocks(blocks, block, *image.shape[:2])

  return _per_image(one, keys, jnp.asarray(images))


def _no_canonical(scheme: Scheme, why: str) -> UserError:
  return UserError(f"scheme '{scheme.name}' has no canonical form: {why}")


def canonical_steps(scheme: str | Scheme) -> tuple[Callable, ...]:
  """The maps of blocks [P, N, C] whose composition is the canonical form.

  Raises UserError, with the reason, where there is none that is cheap to find.
  """
  scheme = get_scheme(scheme)
  steps = []
  for op in scheme.ops:
    match op:
      case ops.PixelShuffle(scope="image") | ops.NegativePositive(
          scope="image"
      ):
        raise _no_canonical(
            scheme,
            "with scope 'image' all blocks share one random choice, so the"
            " blocks can only be normalised together, not one by one; use an"
            " op of scope 'block'.",
        )
      case ops.PixelShuffle():
        steps.append(lambda blocks, op=op: _sorted(op, blocks))
      case ops.NegativePositive(unit="value"):
        steps.append(lambda blocks: jnp.minimum(blocks, ops.negate(blocks)))
      case _:
        raise _no_canonical(
            scheme, f"none is known here for a scheme with {op}."
        )
  kinds = [type(op) for op in scheme.ops]
  if kinds.count(ops.PixelShuffle) > 1:
    raise _no_canonical(scheme, "it shuffles pixels more than once.")
  # Folding comes first whichever way round the scheme applies its ops: the two
  # generate the same group.
  if ops.PixelShuffle in kinds:
    steps.append(steps.pop(kinds.index(ops.PixelShuffle)))
  return tuple(steps)


def _sorted(op: ops.PixelShuffle, blocks: jax.Array) -> jax.Array:
  channels = blocks.shape[2]
  if op.unit != "pixel":
    return op.unrows(sort_leading(op.rows(blocks)), channels)
  if blocks.dtype != jnp.uint8 or channels > 4:
    raise UserError(
        "the canonical form for unit 'pixel' needs uint8 images of at most 4"
        f" channels, not {blocks.dtype} of {channels}."
    )
  shifts = jnp.arange(channels - 1, -1, -1, dtype=jnp.uint32) * 8
  packed = (blocks.astype(jnp.uint32) << shifts).sum(-1, dtype=jnp.uint32)
  ordered = sort_leading(packed)[..., None] >> shifts
  return (ordered & 0xFF).astype(jnp.uint8)


def canonical(
    scheme: str | Scheme, images: jax.Array, block: int = 16
) -> jax.Array:
  """The canonical form of each block: all that a key of the scheme leaves.

  For every key k, to the last bit,
  `canonical(s, encrypt(s, k, x)) == canonical(s, x)`. Under fresh uniform keys
  two images with the same canonical form have the same distribution of
  ciphertexts, so that the ciphertext leaks this form and nothing else.

  `plain`: the block itself. Pixel shuffle of scope block: its values sorted,
  all together (unit value: one histogram), by channel (unit channel: a
  histogram a channel) or as whole colours (unit pixel: the multiset of
  colours). Negative-positive by value: min(v, 255 - v) first.

  Args:
    scheme: its name or object.
    images: uint8 or float [B, H, W, C] (or [H, W, C]), plain or encrypted.
    block: the side M of a block in pixels.

  Returns:
    [B, N, M*M*C] (or [N, M*M*C]) of the images' dtype: the N blocks in
    row-major order, in each the positions and then the channels.

  Raises:
    UserError: where the scheme has no canonical form, with the reason.
  """
  steps = canonical_steps(scheme)
  images = jnp.asarray(images)
  _check(None, images, block)

  def one(image: jax.Array) -> jax.Array:
    blocks = to_blocks(image, block)
    for step in steps:
      blocks = step(blocks)
    return blocks.transpose(1, 0, 2).reshape(blocks.shape[1], -1)

  return _per_image(one, images)
