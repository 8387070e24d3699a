"""Several pictures under one key: where in each block every value went.

Assumes other forms of the picture, scaled and cut in unknown ways, under its
very key, as training on augmented pictures makes them. The place that a block's
value is shuffled to is then the same in all, so that the values at a place, one
of each form, are matched with those at a pixel of pictures of the forms that
are guessed from block means. The more forms, the fewer orders match. Values
that it finds make better pictures, which are matched again. Needs no training,
no plain image and no key. Source: this project.
"""

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment

from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    refuse,
    scrambles,
)
from ppseg_jax.attacks.parts.means import block_means, upsample
from ppseg_jax.encryption import PixelShuffle, Scheme, ops_of
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.encryption.levels import Level

_FIRST, _LAST = 0.15, 0.05  # sigma of smoothing between rounds, in blocks


@declare(needs=("forms",))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """The picture itself, by the order that fits it and all its other forms.

  Raises UserError for a scheme that is not one shuffle inside each block, for a
  level and for noise.
  """
  del seed
  _check(knowledge)
  unit = knowledge.scheme.ops[0].unit
  images = np.stack([
      _open(knowledge, np.stack([cipher, *forms]), unit, budget.rounds)
      for cipher, forms in zip(
          knowledge.ciphertexts, knowledge.forms, strict=True
      )
  ])
  return Outcome(images, {"forms": 1 + knowledge.forms.shape[1]})


def _open(
    knowledge: Knowledge, ciphers: np.ndarray, unit: str, rounds: int
) -> np.ndarray:
  """The first of ciphertexts [E, H, W, 3] under one key, uint8 [H, W, 3]."""
  side = knowledge.block
  values = _units(split(ciphers, side).astype(np.float32), unit)
  pictures = upsample(block_means(knowledge, ciphers), side).astype(np.float32)
  grid = knowledge.grid
  for sigma in np.geomspace(_FIRST * side, _LAST * side, rounds):
    guessed = _units(split(pictures, side), unit)
    order = _match(values, guessed)
    laid = np.take_along_axis(values, order[None, ..., None], 3)
    opened = join(_blocks(laid, unit, side), grid)
    pictures = gaussian_filter(opened, sigma, axes=(1, 2))
  return opened[0].astype(np.uint8)


def _units(blocks: np.ndarray, unit: str) -> np.ndarray:
  """[E, N, M, M, 3] -> [E, N, K, L, V]: V values move together, among L."""
  e, n, m = blocks.shape[:3]
  match unit:
    case "value":
      return blocks.reshape(e, n, 1, m * m * 3, 1)
    case "pixel":
      return blocks.reshape(e, n, 1, m * m, 3)
  return blocks.reshape(e, n, m * m, 3).swapaxes(2, 3)[..., None]


def _blocks(units: np.ndarray, unit: str, side: int) -> np.ndarray:
  """The inverse of `_units`."""
  e, n = units.shape[:2]
  if unit == "channel":
    units = units[..., 0].swapaxes(2, 3)
  return units.reshape(e, n, side, side, 3)


def _match(values: np.ndarray, guessed: np.ndarray) -> np.ndarray:
  """For each guessed place the place of the values that are most like it.

  Both [E, N, K, L, V]; returns int [N, K, L], no place twice.
  """
  _, n, k, length, _ = values.shape
  order = np.empty((n, k, length), np.int64)
  for block in range(n):
    for part in range(k):
      rows = [x[:, block, part].swapaxes(0, 1).reshape(length, -1)
              for x in (guessed, values)]
      # Squared distance, but for what is the same in every order.
      order[block, part] = linear_sum_assignment(-rows[0] @ rows[1].T)[1]
  return order


def _check(knowledge: Knowledge) -> None:
  """Raises UserError unless a key says where every value of a block goes."""
  scheme: Scheme = knowledge.scheme
  if knowledge.noise or ops_of(scheme, Level):
    raise refuse("key_reuse", scheme, "what it encrypts has no order inside its"
                 " blocks, of which a key could tell; see 'views'.")
  if scrambles(scheme):
    raise refuse("key_reuse", scheme, "its blocks are not at their places, and"
                 " it does not look for those.")
  if [type(op) for op in scheme.ops] != [PixelShuffle]:
    raise refuse("key_reuse", scheme,
                 "it takes one shuffle of unchanged values in each block.")
  op = scheme.ops[0]
  if (op.scope, op.cell, op.fraction) != ("block", 0, 1):
    raise refuse("key_reuse", scheme, "it takes a shuffle of the whole of each"
                 " block; one ciphertext is enough for others, see"
                 " 'correlation'.")
