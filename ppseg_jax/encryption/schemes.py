"""Schemes: a name, a tuple of ops, and what they leave to see."""

import dataclasses
import functools
import hashlib
import re
import sys
from pathlib import Path
from types import ModuleType, UnionType

from ppseg_jax.encryption import levels
from ppseg_jax.encryption.levels import Level
from ppseg_jax.encryption.mix import Keyless, Mix
from ppseg_jax.encryption.ops import (
    BlockScramble,
    ColourShuffle,
    NegativePositive,
    NibbleSplit,
    Op,
    PixelShuffle,
    RotateFlip,
)
from ppseg_jax.errors import UserError

# How keys are used, see `keys.image_keys`.
KEY_PLANS = ("shared", "client", "image", "epoch")


@dataclasses.dataclass(frozen=True)
class Scheme:
  """An encryption scheme.

  Attributes:
    name: as configs and files call it.
    ops: applied in this order under the image's key.
    leaks: what the ciphertext still shows, in a sentence: that of one picture
      of whole blocks under a key used once. See the function `leaks`.
    source: where the scheme is from, how it uses keys and blocks, and how sure
      we are of it. The block size used is always the `block` of the call.
    hidden: whether the client puts the answer for each block back in place, see
      `ppseg_jax.encryption.layout`; the scheme then scrambles blocks.
  """

  name: str
  ops: tuple[Op, ...]
  leaks: str
  source: str
  hidden: bool = False


_ONE_PERMUTATION = (
    "The whole image up to one permutation of M*M*C positions, which its own"
    " blocks determine: broken by ciphertext alone."
)
_RESTRICTED = (
    "The values left in place as they are, and the rest up to one permutation"
    " of positions that all blocks share, which they determine: broken by"
    " ciphertext alone, but for some of the blocks that moved."
)
# Up to 2**-20 a permutation (`permutations`) and Threefry's quality.
_ONCE = "; of one picture under a key used once, nothing else."
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
        " blocks, one key for all, half bytes, 15 - v by random bits, shuffle.",
    ),
    Scheme(
        name="ele",
        ops=(NibbleSplit(_BLOCK_NIBBLES), BlockScramble()),
        leaks="Without places, for each block the multiset of |v - 7.5| of its"
        " half bytes.",
        source="Madono et al., AAAI workshop 2020, arXiv 2001.07761, after its"
        " public code: LE with another key for each block position, and block"
        " scrambling; 4x4 blocks, one key for all images. The order of the two"
        " is what we took.",
    ),
    Scheme(
        name="pe",
        ops=(NegativePositive(unit="value", scope="block"),
             ColourShuffle(unit="pixel", scope="block")),
        leaks="For each pixel, at its place, the multiset of |v - 127.5| of its"
        " channels, so every edge and texture.",
        source="Sirichotedumrong, Kinoshita, Kiya, arXiv 1905.01827 and IEEE"
        " Access 7:177844, 2019; shared keys in the first, independent ones"
        " allowed in the second.",
    ),
    Scheme(
        name="etc",
        ops=_etc(overwrite=False),
        leaks="The multiset of blocks, each up to rotation and flip, negative"
        " and colour order, so the texture of all blocks and, through matching"
        " borders, much of the layout.",
        source="Chuman, Sirichotedumrong, Kiya, IEEE TIFS 14(6), 2019: 16x16"
        " blocks, one key for all.",
    ),
    Scheme(
        name="etc_madono",
        ops=_etc(overwrite=True),
        leaks="What etc leaks, and the order of the channels it keeps, which"
        " etc hides; others are lost. Encrypts only.",
        source="The EtC of the public code of Madono et al., arXiv 2001.07761,"
        " which overwrites channels in place, so that 5 of 6 colour orders lose"
        " one or two; 4x4 blocks, one key for all. The order in which it copies"
        " them is what we took.",
    ),
    Scheme(
        name="kiya2022",
        ops=(PixelShuffle(unit="value", scope="image"),),
        leaks=_ONE_PERMUTATION,
        source="Kiya et al., J. Imaging 8(9):233, 2022: any invertible matrix"
        " on the values of a block, one key for all; a permutation is the case"
        " we took.",
    ),
    Scheme(
        name="sueyoshi2025",
        ops=(PixelShuffle(unit="value", scope="image"),),
        leaks=_ONE_PERMUTATION,
        source="Sueyoshi et al., arXiv 2507.12730: the cipher of kiya2022 for"
        " training and test images, one key for all, the model adapted. The"
        " abstract was read; the cipher is what we took.",
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
    ),
    Scheme(
        name="horio2024_unscrambled",
        ops=(PixelShuffle(unit="value", scope="image", fraction=268 / 768),),
        leaks=_RESTRICTED,
        source="horio2024 without block scrambling.",
    ),
    # Their other encryption, patches in no order, is `plain_hidden`.
    Scheme(
        name="hao2025_mix",
        ops=(Mix(parts=2),),
        leaks="For each block, at its place, the mean of its four quarters,"
        " pixel by pixel; no key hides more.",
        source="Hao et al., IJCAI 2025, arXiv 2306.03679: mixing-up of"
        " sub-patches, without a key. Read through others, who tell of a mean"
        " of four; that the parts are quarters of a square is what we took.",
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
        " (so a mosaic of block means)" + _ONCE,
        source="ppseg_jax.",
    ),
    Scheme(
        name="blockwise_value",
        ops=(PixelShuffle(unit="value", scope="block"),),
        leaks="For each block, at its place, one histogram of its values,"
        " the channels mixed" + _ONCE,
        source="ppseg_jax.",
    ),
    Scheme(
        name="blockwise_pixel",
        ops=(PixelShuffle(unit="pixel", scope="block"),),
        leaks="For each block, at its place, the multiset of its colours"
        + _ONCE,
        source="ppseg_jax.",
    ),
    Scheme(
        name="blockwise_negative",
        ops=(NegativePositive(unit="value", scope="block"),
             PixelShuffle(unit="channel", scope="block")),
        leaks="For each block, at its place, and each channel the multiset of"
        " |v - 127.5|" + _ONCE,
        source="ppseg_jax.",
    ),
    Scheme(
        name="blockwise_scrambled",
        ops=(PixelShuffle(unit="channel", scope="block"), BlockScramble()),
        leaks="The multiset of blockwise's histograms, without their places"
        + _ONCE,
        source="ppseg_jax.",
    ),
)
SCHEMES = {scheme.name: scheme for scheme in _ALL}


# Names of schemes with a hidden layout: blockwise_hidden, blockwise_bands2.
_HIDDEN = re.compile(r"(\w+?)_(?:hidden|bands([1-9]\d*))")
# And of those with a level: blockwise_q4.
_LEVEL = re.compile(r"(\w+)_((?:[mqb]\d+)+)")


def get_scheme(scheme: str | Scheme) -> Scheme:
  """The scheme of that name or of FILE.py:NAME, or the scheme itself.

  Names are those of SCHEMES; `blockwise` and `blockwise_value` with a level
  behind them (`blockwise_q4`), see `at_level`; and each of these with `_hidden`
  or `_bands<rows>` behind it for the same with its layout hidden, see
  `hide_layout`. The same file and name give the same object as long as the file
  is unchanged, so that what jit compiled for it is found again.

  Raises:
    UserError: for an unknown name, or a file without such a scheme.
  """
  if isinstance(scheme, Scheme):
    return scheme
  if scheme in SCHEMES:
    return SCHEMES[scheme]
  hidden = _HIDDEN.fullmatch(scheme)
  if hidden and _known(hidden[1]):
    return hide_layout(hidden[1], int(hidden[2] or 0))
  level = _LEVEL.fullmatch(scheme)
  if level and level[1] in SCHEMES:
    return at_level(level[1], level[2])
  file, colon, name = scheme.rpartition(":")
  if not colon:
    raise UserError(
        f"scheme='{scheme}' is none of {', '.join(SCHEMES)}, nor one of these"
        " with a level (blockwise_q4), _hidden or _bands2 behind it, nor"
        " FILE.py:NAME."
    )
  try:
    path = Path(file).expanduser().resolve()
    found = getattr(_module(path, path.read_bytes()), name)
    hash(found)  # jit compiles a program for each scheme
  except (Exception, SystemExit) as error:  # a file may raise anything
    raise UserError(
        f"scheme='{scheme}' cannot be loaded ({type(error).__name__}: {error});"
        " give FILE.py:NAME, where NAME is a Scheme object with a tuple of ops."
    ) from None
  if not isinstance(found, Scheme):
    raise UserError(f"scheme='{scheme}' is not a Scheme object.")
  if SCHEMES.get(found.name, found) != found:
    raise UserError(
        f"scheme='{scheme}' has the name '{found.name}' of another scheme;"
        " rename it."
    )
  return found


def _known(name: str) -> bool:
  level = _LEVEL.fullmatch(name)
  return (level[1] if level else name) in SCHEMES


@functools.cache
def _module(path: Path, source: bytes) -> ModuleType:
  name = f"scheme_{hashlib.sha256(bytes(path) + source).hexdigest()}"
  module = ModuleType(name)
  module.__file__ = str(path)
  sys.modules[name] = module  # where dataclasses look for their annotations
  try:
    exec(compile(source, path, "exec"), module.__dict__)
  except BaseException:
    del sys.modules[name]
    raise
  return module


def shown(scheme: str) -> str:
  """The name of the scheme without what hides its layout, if that is named."""
  hidden = _HIDDEN.fullmatch(scheme)
  return hidden[1] if hidden and _known(hidden[1]) else scheme


def leaks(scheme: str | Scheme, plan: str = "image") -> str:
  """What ciphertexts under the scheme still show, in sentences.

  Args:
    scheme: its name or object.
    plan: how keys are used, one of `KEY_PLANS`. Under `shared` and `client` a
      key meets many pictures by their nature, and the text says what that adds.

  Raises:
    UserError: for an unknown scheme or plan.
  """
  scheme = get_scheme(scheme)
  if plan not in KEY_PLANS:
    raise UserError(f"key_plan='{plan}' is none of {', '.join(KEY_PLANS)}.")
  if plan not in ("shared", "client") or not takes_key(scheme):
    return scheme.leaks
  return (
      f"{scheme.leaks} Here one key meets many pictures: what they have in"
      " common at a place shows too, and with a known pair or enough of them"
      " what the key does."
  )


def ops_of(scheme: Scheme, kind: type | UnionType = object) -> list[Op]:
  """The scheme's ops of a kind, those that NibbleSplit holds included."""
  ops = [o for op in scheme.ops for o in (op, *getattr(op, "ops", ()))]
  return [op for op in ops if isinstance(op, kind)]


def takes_key(scheme: Scheme) -> bool:
  """Whether a key changes anything: not of plain images, nor of a mix alone."""
  return not all(isinstance(op, Keyless) for op in scheme.ops)


def squares_of(scheme: str | Scheme) -> int:
  """Side, in blocks, of the squares that its level takes together; 1: none."""
  found = ops_of(get_scheme(scheme), Level)
  return max((level.merge for level in found), default=1)


def known_ops(scheme: str | Scheme) -> bool:
  """Whether cut and mirrored ciphertexts are known to be such of the image.

  They are for every op of this package, whoever moves blocks not being cut.
  Inside a block nothing else is looked at, so that a window of blocks is one of
  the image. Mirroring, under a key of the image's own, turns each permutation p
  of places into m p m, which is as uniform as p, whether it is of values in a
  block or a cell, a cycle of some of them, or of blocks; turns, signs and
  channels are mirrored likewise, and so is the mean of parts. A level does the
  same to each block, unless it takes neighbours together. An op of somebody
  else's may do anything.
  """
  known = (BlockScramble, ColourShuffle, NegativePositive, NibbleSplit,
           PixelShuffle, RotateFlip, Mix)
  return all(
      type(op) in known or (isinstance(op, Level) and op.merge == 1)
      for op in ops_of(get_scheme(scheme))
  )

def hide_layout(scheme: str | Scheme, bands: int = 0) -> Scheme:
  """The scheme with its blocks scrambled over the whole image first.

  With `bands` inside horizontal bands of so many rows of blocks: what is above
  and what below then stays known, and how much of each class is in a band.
  """
  scheme = get_scheme(scheme)
  if squares_of(scheme) > 1:
    raise UserError(
        f"scheme '{scheme.name}' takes neighbouring blocks together, which a"
        " hidden layout would tear apart; use a level without m."
    )
  where = "In no order"
  if bands:
    where = f"In no order within bands of {bands} rows of blocks"
  left = "every block as it is, of which borders that fit give the order away."
  if scheme.ops:
    left = (f"what '{scheme.name}' leaves of each block, which is:"
             f" {scheme.leaks.replace(', at its place,', '')}")
  return dataclasses.replace(
      scheme,
      name=f"{scheme.name}_{f'bands{bands}' if bands else 'hidden'}",
      ops=(BlockScramble(height=bands), *scheme.ops),
      hidden=True,
      leaks=f"{where}, {left}",
  )


def at_level(scheme: str | Scheme, level: str) -> Scheme:
  """The scheme of images of which only a level is left, see `levels`.

  Args:
    scheme: one that shuffles inside blocks, by channel or by value, and does
      nothing else: `blockwise` or `blockwise_value`, also with their layout
      hidden.
    level: as `q4`, `q4b5` or `m2q4`.

  Raises UserError for another scheme, or what is no level.
  """
  scheme = get_scheme(scheme)
  if hidden := _HIDDEN.fullmatch(scheme.name):
    return hide_layout(at_level(hidden[1], level), int(hidden[2] or 0))
  shuffle = scheme.ops[0] if len(scheme.ops) == 1 else None
  if shuffle not in (PixelShuffle("channel", "block"),
                     PixelShuffle("value", "block")):
    raise UserError(
        f"scheme '{scheme.name}' has no levels, or is at one already; use"
        " blockwise or blockwise_value."
    )
  found = levels.parse(level, shuffle.unit)
  return dataclasses.replace(
      scheme, name=f"{scheme.name}_{found}", ops=(found, shuffle),
      leaks=_leaks_of(found) + _ONCE,
  )


def _leaks_of(level: Level) -> str:
  where = "block"
  if level.merge > 1:
    where = f"square of {level.merge}x{level.merge} blocks"
  of_what = "and each channel " if level.unit == "channel" else ""
  mixed = "" if of_what else ", the channels mixed"
  match level.groups:
    case 0:
      what = f"the sorted values{mixed}"
    case 1:
      what = f"the mean{mixed}"
    case groups:
      what = f"the means of {groups} groups of the sorted values{mixed}"
  bits = f", {level.bits} bits of each" if level.bits < 8 else ""
  return f"For each {where}, at its place, {of_what}{what}{bits}"
