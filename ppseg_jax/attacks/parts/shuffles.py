"""Undoes a shuffle that all blocks of an image share, from its blocks alone."""

import numpy as np

from ppseg_jax.attacks.parts import seriation
from ppseg_jax.attacks.parts.halves import split_halves
from ppseg_jax.encryption import NegativePositive, NibbleSplit, Scheme, ops_of

_NEAREST = 8  # positions whose distance tells an upper half byte from a lower


def open_blocks(
    blocks: np.ndarray, scheme: Scheme, unit: str, rounds: int
) -> tuple[np.ndarray, float]:
  """Undoes the shuffle of one image's blocks, up to a symmetry of the block.

  Args:
    blocks: uint8 [N, M, M, C].
    scheme: for its negative-positive bits, which are folded or aligned.
    unit: of the pixel shuffle.
    rounds: of `seriation.refine`.

  Returns:
    (uint8 [N, M, M, C], stress).
  """
  n, side, _, channels = blocks.shape
  if ops_of(scheme, NibbleSplit):
    rows = _upper_halves(blocks, scheme)
  else:
    rows = _upright(blocks.reshape(n, -1).T, scheme, 255)  # [M*M*C, N]
  if unit == "pixel":
    by_pixel = rows.reshape(side * side, channels * n)
    slot, stress = seriation.lay_out(
        seriation.distances(by_pixel), side, 1, rounds
    )
    place = slot[:, None] * channels + np.arange(channels)
    slot = place.ravel()
  else:
    known = np.arange(len(rows)) % channels if unit == "channel" else None
    slot, stress = seriation.lay_out(
        seriation.distances(rows), side, channels, rounds, known, rows
    )
  opened = np.empty_like(rows)
  opened[slot] = rows
  return opened.T.reshape(blocks.shape), stress


def _upper_halves(blocks: np.ndarray, scheme: Scheme) -> np.ndarray:
  """Of shuffled half bytes those that were the upper ones, [M*M*C, N].

  Lower halves are near to noise, so that their nearest neighbours are far.
  """
  halves = split_halves(blocks).reshape(len(blocks), -1).T
  halves = _upright(halves, scheme, 15)
  nearest = np.sort(seriation.distances(halves), 1)[:, 1:_NEAREST + 1]
  return 17 * halves[np.argsort(nearest.mean(1))[:len(halves) // 2]]


def _upright(rows: np.ndarray, scheme: Scheme, top: int) -> np.ndarray:
  """Rows [L, N] with what negative-positive did to them undone or folded.

  Bits by value of every block can't be told: v or top - v is folded, which
  loses which of the two it was. Bits shared by all blocks turn whole rows,
  which then correlate negatively with the others. A bit a block changes no
  difference between positions.
  """
  for op in ops_of(scheme, NegativePositive):
    if op.scope == "block" and op.unit != "block":
      rows = np.minimum(rows, top - rows)
    elif op.scope == "image":
      centred = rows - rows.mean(1, keepdims=True)
      lead = np.linalg.eigh(centred @ centred.T)[1][:, -1]
      turned = lead < 0
      rows = np.where(turned[:, None], top - rows, rows).astype(np.uint8)
  return rows
