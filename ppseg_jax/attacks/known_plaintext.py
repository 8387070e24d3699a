"""One pair of plain image and ciphertext gives the map of positions.

Assumes one image of which both are known. The generator's key stays unknown,
but where every value of the image went does not, so that every other image
under the same key opens. Under independent keys the pair opens nothing else.
Source: textbook.
"""

import numpy as np

from ppseg_jax.attacks.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    join,
    ops_of,
    refuse,
    split,
)
from ppseg_jax.encryption import BlockScramble, NegativePositive, PixelShuffle

_NAME = "known_plaintext"


def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """Applies the map that the pair shows to every ciphertext.

  Values that occur twice in a block of the pair (with scope `block`) or rows
  that agree in all its blocks (scope `image`) are told apart by chance, so that
  the pair itself opens exactly and other images to that extent.

  Raises UserError without a pair, and for schemes of other ops than block
  scramble, pixel shuffle and negative-positive.
  """
  del seed, budget
  knowledge.need(_NAME, "pair")
  known = (BlockScramble, PixelShuffle, NegativePositive)
  strange = [op for op in knowledge.scheme.ops if not isinstance(op, known)]
  if strange:
    raise refuse(_NAME, knowledge.scheme, f"it does not undo {strange[0]}.")
  plain, cipher = (
      split(image[None], knowledge.block)[0].reshape(
          -1, knowledge.block**2, 3
      ) for image in knowledge.pair
  )
  source, negative = position_map(knowledge.scheme, plain, cipher)
  flat = split(knowledge.ciphertexts, knowledge.block)
  opened = flat.reshape(len(flat), -1)[:, source.ravel()]
  opened = np.where(negative.ravel(), 255 - opened, opened)
  return Outcome(join(opened.reshape(flat.shape), knowledge.grid))


def position_map(
    scheme, plain: np.ndarray, cipher: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Where each plain value lies in the ciphertext, and whether negated.

  Args:
    scheme: of the pair.
    plain, cipher: uint8 [N, P, C].

  Returns:
    (int [N, P, C] into the flat ciphertext, bool [N, P, C]).
  """
  n, p, c = plain.shape
  bits = bool(ops_of(scheme, NegativePositive))
  fold = (lambda v: np.minimum(v, 255 - v)) if bits else (lambda v: v)
  folded, hidden = fold(plain), fold(cipher)
  block = np.arange(n)
  if ops_of(scheme, BlockScramble):
    # Blocks are known again by their sorted values.
    block[_order(folded.reshape(n, -1))] = _order(hidden.reshape(n, -1))
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
