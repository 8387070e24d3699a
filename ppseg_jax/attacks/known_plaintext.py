"""One pair of plain image and ciphertext gives the map of positions.

Assumes one image of which both are known. The generator's key stays unknown,
but where every value of the image went does not, so that every other image
under the same key opens. Under independent keys the pair opens nothing else.
Source: textbook.
"""

import math

import numpy as np

from ppseg_jax.attacks.parts.halves import join_halves, split_halves
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    level_of,
    refuse,
)
from ppseg_jax.encryption import (
    BlockScramble,
    ColourShuffle,
    NegativePositive,
    NibbleSplit,
    PixelShuffle,
    RotateFlip,
    ops_of,
)
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.encryption.canonical import small_group

_NAME = "known_plaintext"


@declare(needs=("pair",), key_plans=("image", "shared"))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """Applies the map that the pair shows to every ciphertext.

  Values that occur twice in a block of the pair (with scope `block`) or rows
  that agree in all its blocks (scope `image`) are told apart by chance, so that
  the pair itself opens exactly and other images to that extent.

  Raises UserError without a pair, and for schemes that turn blocks or mix
  colours and shuffle pixels besides, that turn cells, that lose channels, or
  that leave a level of the image.
  """
  del seed, budget
  scheme = knowledge.scheme
  if level_of(scheme):
    raise refuse(_NAME, scheme,
                 "a level puts values in order before they are shuffled, so"
                 " that the map of positions tells nothing of the picture.")
  halves = bool(ops_of(scheme, NibbleSplit))
  top = 15 if halves else 255

  def values(images: np.ndarray) -> np.ndarray:  # [B, H, W, C] -> [B, N, P, C]
    blocks = split(images, knowledge.block)
    blocks = blocks.reshape(*blocks.shape[:2], -1, blocks.shape[-1])
    return split_halves(blocks) if halves else blocks

  plain, cipher = values(np.stack(knowledge.pair))
  way = _turned if ops_of(scheme, RotateFlip | ColourShuffle) else position_map
  source, negative = way(scheme, plain, cipher, top)
  flat = values(knowledge.ciphertexts)
  opened = flat.reshape(len(flat), -1)[:, source.ravel()]
  opened = np.where(negative.ravel(), top - opened, opened).reshape(flat.shape)
  opened = join_halves(opened) if halves else opened
  side = knowledge.block
  opened = opened.reshape(*opened.shape[:2], side, side, 3)
  return Outcome(join(opened, knowledge.grid))


def _match_blocks(scheme, plain: np.ndarray, cipher: np.ndarray) -> np.ndarray:
  """For each plain block the cipher block of the same sorted values, int [N].

  Both [N, L], with signs folded away.
  """
  block = np.arange(len(plain))
  if ops_of(scheme, BlockScramble):
    block[_order(plain)] = _order(cipher)
  return block


def _turned(
    scheme, plain: np.ndarray, cipher: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
  """`position_map` where blocks are turned or their channels change order.

  Few enough ways for each block, or each pixel, that all are tried.
  """
  if (ops_of(scheme, PixelShuffle) or ops_of(scheme, NibbleSplit)
      or any(op.cell for op in ops_of(scheme, RotateFlip))
      or any(op.overwrite for op in ops_of(scheme, ColourShuffle))):
    raise refuse(_NAME, scheme, "it does not undo these ops together.")
  n, p, c = plain.shape
  fold = lambda v: np.minimum(v, top - v).reshape(n, -1)
  block = _match_blocks(scheme, fold(plain), fold(cipher))
  by_pixel = any(
      op.unit in ("pixel", "value")
      for op in ops_of(scheme, ColourShuffle | NegativePositive)
  )
  if by_pixel and ops_of(scheme, RotateFlip):
    raise refuse(_NAME, scheme, "it does not undo these ops together.")
  signs = {op.unit for op in ops_of(scheme, NegativePositive)}
  width = c if by_pixel else p * c
  sources, flips = small_group(
      1 if by_pixel else math.isqrt(p), c, bool(ops_of(scheme, RotateFlip)),
      bool(ops_of(scheme, ColourShuffle)),
      "channel" if signs & {"value", "channel"} else "block" if signs else "",
  )
  units, hidden = plain.reshape(-1, width), cipher[block].reshape(-1, width)
  within = np.zeros(units.shape, np.int64)
  negative = np.zeros(units.shape, bool)
  for source, flip in zip(sources, flips, strict=True):
    flip = np.tile(flip, width // c)
    found = hidden[:, source]
    same = (np.where(flip, top - found, found) == units).all(1)
    within[same], negative[same] = source, flip
  start = block[:, None] * (p * c) + np.arange(0, p * c, width)
  source = start.reshape(-1, 1) + within
  return source.reshape(n, p, c), negative.reshape(n, p, c)


def position_map(
    scheme, plain: np.ndarray, cipher: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
  """Where each plain value lies in the ciphertext, and whether negated.

  Args:
    scheme: of the pair.
    plain, cipher: uint8 [N, P, C].
    top: the largest value; v may have become top - v.

  Returns:
    (int [N, P, C] into the flat ciphertext, bool [N, P, C]).
  """
  n, p, c = plain.shape
  bits = bool(ops_of(scheme, NegativePositive))
  fold = (lambda v: np.minimum(v, top - v)) if bits else (lambda v: v)
  folded, hidden = fold(plain), fold(cipher)
  block = _match_blocks(
      scheme, folded.reshape(n, -1), hidden.reshape(n, -1)
  )
  source = block[:, None] * (p * c) + np.arange(p * c)
  for op in ops_of(scheme, PixelShuffle):
    a, b = folded, hidden[block]
    if op.unit == "value":
      a, b = a.reshape(n, -1, 1, 1), b.reshape(n, -1, 1, 1)
    elif op.unit == "pixel":
      a, b = a[:, :, None], b[:, :, None]
    else:
      a, b = a[..., None], b[..., None]
    place = _match(a, b, op.scope == "image")  # [N, L, channels or 1]
    if op.unit == "value":
      within = place[:, :, 0]
    else:
      within = (place * c + np.arange(c)).reshape(n, -1)
    source = np.take_along_axis(source, within, 1)
  source = source.reshape(n, p, c)
  negative = cipher.ravel()[source] != plain  # nowhere without such bits
  return source, negative


def _order(rows: np.ndarray) -> np.ndarray:
  return np.lexsort(np.sort(rows, 1).T)


def _match(plain: np.ndarray, cipher: np.ndarray, shared: bool) -> np.ndarray:
  """For each plain position the cipher position of the same values.

  Both [N, L, K, V]: V values move together, K of them by permutations of their
  own; `shared` by all N. Returns int [N, L, K].
  """
  n, length, kinds, _ = plain.shape
  place = np.empty((n, length, kinds), np.int64)
  for k in range(kinds):
    if shared:
      rows = [x[:, :, k].transpose(1, 0, 2).reshape(length, -1)
              for x in (plain, cipher)]
      place[:, np.lexsort(rows[0].T), k] = np.lexsort(rows[1].T)
      continue
    for i in range(n):
      place[i, np.lexsort(plain[i, :, k].T), k] = np.lexsort(
          cipher[i, :, k].T
      )
  return place
