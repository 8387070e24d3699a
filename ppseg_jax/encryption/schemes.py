"""Schemes, a name and a tuple of ops; encryption and decryption."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from types import UnionType

import jax
import jax.numpy as jnp

from ppseg_jax.encryption.keys import IMPL
from ppseg_jax.encryption.ops import (
    BlockScramble,
    ColourShuffle,
    NegativePositive,
    NibbleSplit,
    Op,
    PixelShuffle,
    RotateFlip,
)
from ppseg_jax.encryption.threefry import Stream
from ppseg_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Scheme:
  """An encryption scheme.

  Attributes:
    name: as configs and files call it.
    ops: applied in this order under the image's key.
    leaks: what the ciphertext still shows, in a sentence.
    source: where the scheme is from, and how sure we are of it.
    source_block: the block size that its source uses, where it fixes one; the
      size used is always the `block` of the call.
    key_plan: as the source uses keys: `shared`, `client` or `image`.
  """

  name: str
  ops: tuple[Op, ...]
  leaks: str
  source: str
  source_block: int | None = None
  key_plan: str = "image"


_ONE_PERMUTATION = (
    "The whole image up to one permutation of M*M*C positions, which its own"
    " blocks determine: broken by ciphertext alone."
)
_RESTRICTED = (
    "The values left in place as they are, and the rest up to one permutation"
    " of positions that all blocks share, which they determine: broken by"
    " ciphertext alone, but for some of the blocks that moved."
)
_MEMORY = "From memory and summaries, not read in the paper."
_NIBBLES = (
    NegativePositive(unit="value", scope="image"),
    PixelShuffle(unit="value", scope="image"),
)
_BLOCK_NIBBLES = (
    NegativePositive(unit="value", scope="block"),
    PixelShuffle(unit="value", scope="block"),
)


def _etc(overwrite: bool) -> tuple[Op, ...]:
  return (
      BlockScramble(),
      RotateFlip(scope="block"),
      NegativePositive(unit="block", scope="block"),
      ColourShuffle(unit="block", scope="block", overwrite=overwrite),
  )


_ALL = (
    Scheme(
        name="plain",
        ops=(),
        leaks="The image.",
        source="No encryption; the reference.",
    ),
    Scheme(
        name="le",
        ops=(NibbleSplit(_NIBBLES),),
        leaks="The whole image up to one choice of signs and one permutation"
        " of half bytes that all blocks share: broken by ciphertext alone.",
        source="Tanaka, ICCE-TW 2018, after its authors' public code: 4x4"
        " blocks, half bytes, 15 - v by random bits, shuffle.",
        source_block=4,
        key_plan="shared",
    ),
    Scheme(
        name="ele",
        ops=(NibbleSplit(_BLOCK_NIBBLES), BlockScramble()),
        leaks="Without places, for each block the multiset of |v - 7.5| of its"
        " half bytes, under keys that are not shared; under the source's"
        " shared key whatever images have in common at a place.",
        source="Madono et al., AAAI workshop 2020, arXiv 2001.07761, after its"
        " public code: LE with another key for each block position, and block"
        " scrambling. The order of the two is what we took.",
        source_block=4,
        key_plan="shared",
    ),
    Scheme(
        name="pe",
        ops=(NegativePositive(unit="value", scope="block"),
             ColourShuffle(unit="pixel", scope="block")),
        leaks="For each pixel, at its place, the multiset of |v - 127.5| of its"
        " channels, so every edge and texture.",
        source="Sirichotedumrong, Kinoshita, Kiya, arXiv 1905.01827 and IEEE"
        " Access 7:177844, 2019; shared keys in the first, independent ones"
        " allowed in the second (key_plan).",
    ),
    Scheme(
        name="etc",
        ops=_etc(overwrite=False),
        leaks="The multiset of blocks, each up to rotation and flip, negative"
        " and colour order, so the texture of all blocks and, through matching"
        " borders, much of the layout.",
        source="Chuman, Sirichotedumrong, Kiya, IEEE TIFS 14(6), 2019.",
        source_block=16,
        key_plan="shared",
    ),
    Scheme(
        name="etc_madono",
        ops=_etc(overwrite=True),
        leaks="What etc leaks, and the order of the channels it keeps, which"
        " etc hides; others are lost. Encrypts only.",
        source="The EtC of the public code of Madono et al., arXiv 2001.07761,"
        " which overwrites channels in place, so that 5 of 6 colour orders lose"
        " one or two. The order in which it copies them is what we took.",
        source_block=4,
        key_plan="shared",
    ),
    Scheme(
        name="kiya2022",
        ops=(PixelShuffle(unit="value", scope="image"),),
        leaks=_ONE_PERMUTATION,
        source="Kiya et al., J. Imaging 8(9):233, 2022: any invertible matrix"
        " on the values of a block; a permutation is the case we took.",
        key_plan="shared",
    ),
    Scheme(
        name="sueyoshi2025",
        ops=(PixelShuffle(unit="value", scope="image"),),
        leaks=_ONE_PERMUTATION,
        source="Sueyoshi et al., arXiv 2507.12730: the cipher of kiya2022 for"
        " training and test images, the model adapted. The abstract was read;"
        " the cipher is what we took.",
        key_plan="shared",
    ),
    Scheme(
        name="aso2024",
        ops=(BlockScramble(fraction=0.25),
             PixelShuffle(unit="value", scope="image", fraction=0.25)),
        leaks=_RESTRICTED,
        source="Aso et al., arXiv 2408.05737: restricted random permutation"
        " matrices under independent keys. That a quarter moves, and along one"
        " cycle, is what we took.",
    ),
    Scheme(
        name="aso2024_unscrambled",
        ops=(PixelShuffle(unit="value", scope="image", fraction=0.25),),
        leaks=_RESTRICTED,
        source="aso2024 without block scrambling.",
    ),
    Scheme(
        name="horio2024",
        ops=(BlockScramble(fraction=76 / 196),
             PixelShuffle(unit="value", scope="image", fraction=268 / 768)),
        leaks=_RESTRICTED,
        source="Horio et al., arXiv 2408.08529: 120 of 196 blocks and 500 of"
        " 768 values left in place, one key for all. Shares, not counts, are"
        " kept for other sizes; the cycle is what we took.",
        key_plan="shared",
    ),
    Scheme(
        name="horio2024_unscrambled",
        ops=(PixelShuffle(unit="value", scope="image", fraction=268 / 768),),
        leaks=_RESTRICTED,
        source="horio2024 without block scrambling.",
        key_plan="shared",
    ),
    # The paper's two pages name the cipher by citing the authors' IEEE Access
    # 2025 paper, which we could not read: one permutation of all M*M*C values,
    # the same for every block, is what we took.
    Scheme(
        name="independent",
        ops=(PixelShuffle(unit="value", scope="image"),),
        leaks=_ONE_PERMUTATION,
        source="Hirose, Imaizumi, Kiya, arXiv 2604.16523 (uncertain).",
    ),
    Scheme(
        name="blockwise",
        ops=(PixelShuffle(unit="channel", scope="block"),),
        leaks="For each block, at its place, the histogram of each channel"
        " (so a mosaic of block means); nothing else.",
        source="ppseg_jax.",
    ),
    Scheme(
        name="blockwise_value",
        ops=(PixelShuffle(unit="value", scope="block"),),
        leaks="For each block, at its place, one histogram of its values,"
        " the channels mixed; nothing else.",
        source="ppseg_jax.",
    ),
    Scheme(
        name="blockwise_pixel",
        ops=(PixelShuffle(unit="pixel", scope="block"),),
        leaks="For each block, at its place, the multiset of its colours;"
        " nothing else.",
        source="ppseg_jax.",
    ),
    Scheme(
        name="blockwise_negative",
        ops=(NegativePositive(unit="value", scope="block"),
             PixelShuffle(unit="channel", scope="block")),
        leaks="For each block, at its place, and each channel the multiset of"
        " |v - 127.5|; nothing else.",
        source="ppseg_jax.",
    ),
    Scheme(
        name="blockwise_scrambled",
        ops=(PixelShuffle(unit="channel", scope="block"), BlockScramble()),
        leaks="The multiset of blockwise's histograms, without their places;"
        " nothing else.",
        source="ppseg_jax.",
    ),
)
SCHEMES = {scheme.name: scheme for scheme in _ALL}


def get_scheme(scheme: str | Scheme) -> Scheme:
  """The scheme of that name, or the scheme itself; UserError if unknown."""
  if isinstance(scheme, Scheme):
    return scheme
  if scheme not in SCHEMES:
    raise UserError(f"scheme='{scheme}' is none of {', '.join(SCHEMES)}.")
  return SCHEMES[scheme]


def ops_of(scheme: Scheme, kind: type | UnionType = object) -> list[Op]:
  """The scheme's ops of a kind, those that NibbleSplit holds included."""
  ops = [o for op in scheme.ops for o in (op, *getattr(op, "ops", ()))]
  return [op for op in ops if isinstance(op, kind)]


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


def check_images(images: jax.Array, block: int) -> None:
  """Raises UserError unless the images are what `encrypt` takes."""
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


def _check_keys(keys: jax.Array, images: jax.Array) -> None:
  if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
    raise UserError(
        f"keys must be typed jax.random keys, not {keys.dtype} values; make"
        " them with ppseg_jax.encryption.fresh_keys."
    )
  if str(jax.random.key_impl(keys)) != IMPL:
    raise UserError(
        f"keys must be of implementation {IMPL}, 128 bits each, not"
        f" {jax.random.key_impl(keys)}; make them with"
        " ppseg_jax.encryption.fresh_keys."
    )
  if keys.shape != images.shape[:-3]:
    raise UserError(
        f"keys of shape {keys.shape} do not fit images of shape"
        f" {images.shape}: one key an image is needed."
    )


def _streams(scheme: Scheme, key: jax.Array, images: int) -> list:
  """A keystream for each op, by its kind and its place among its kind."""
  seen = Counter()
  words = jax.random.key_data(key)

  def stream(op):
    if isinstance(op, NibbleSplit):
      return tuple(map(stream, op.ops))
    kind = getattr(op, "kind", None)
    if not isinstance(kind, int):
      raise UserError(
          f"scheme '{scheme.name}': {type(op).__name__} has no number `kind`,"
          " which names its part of the keystream; give it one from 100 on."
      )
    seen[kind] += 1
    return Stream(words, 256 * kind + seen[kind] - 1, images)

  return [stream(op) for op in scheme.ops]


def per_image(function: Callable, *arrays: jax.Array) -> jax.Array:
  """Calls the function on one image, or maps it over a batch of them."""
  return (jax.vmap(function) if arrays[-1].ndim == 4 else function)(*arrays)


def encrypt(
    scheme: str | Scheme, keys: jax.Array, images: jax.Array, block: int = 16
) -> jax.Array:
  """Encrypts each image under its own key.

  Args:
    scheme: its name or object.
    keys: typed `threefry4x32` keys, [B] (or [] for one image).
    images: uint8 or float (0 to 255) [B, H, W, C] (or [H, W, C]); H and W
      multiples of `block`. Permutations move floats of any value unchanged.
    block: the side M of a block in pixels.

  Returns:
    Encrypted images of the same shape and dtype.

  Raises:
    UserError: for an unknown scheme, a wrong size, dtype or kind of key.
  """
  return _apply("encrypt", scheme, keys, images, block)


def decrypt(
    scheme: str | Scheme, keys: jax.Array, images: jax.Array, block: int = 16
) -> jax.Array:
  """Undoes `encrypt`, to the last bit on uint8; arguments and errors alike.

  Raises UserError for a scheme that cannot be undone.
  """
  return _apply("decrypt", scheme, keys, images, block)


def _apply(
    way: str, scheme: str | Scheme, keys: jax.Array, images: jax.Array,
    block: int,
) -> jax.Array:
  scheme = get_scheme(scheme)
  check_images(images, block)
  _check_keys(keys, images)
  images = jnp.asarray(images)
  at_once = len(images) if images.ndim == 4 else 1

  def one(key: jax.Array, image: jax.Array) -> jax.Array:
    height, width, _ = image.shape
    grid = (height // block, width // block)
    blocks = to_blocks(image, block)
    steps = list(zip(scheme.ops, _streams(scheme, key, at_once), strict=True))
    for op, stream in steps if way == "encrypt" else steps[::-1]:
      blocks = getattr(op, way)(stream, blocks, grid)
    return from_blocks(blocks, block, height, width)

  return per_image(one, keys, images)
