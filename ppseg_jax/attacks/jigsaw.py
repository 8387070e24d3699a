"""Puts scrambled blocks back by how their borders fit.

Assumes whole blocks moved, each perhaps turned, negated or with its channels in
another order, as in `etc`; or, in place of those, one permutation of the values
inside them shared by all blocks of an image, which `correlation` undoes first.
With a permutation for every block there are no borders to fit; what is left
then is in `layout`. Where only a share of the blocks moved, those that fit
worst are taken out and put back.
Source: Chuman and Kiya, Information 14(6):311 (2023), in aim; see `assembly`.
"""

import math

import numpy as np

from ppseg_jax.attacks.parts import assembly
from ppseg_jax.attacks.parts.borders import border, place_symmetry, symmetries
from ppseg_jax.attacks.parts.forms import make_forms
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    refuse,
)
from ppseg_jax.attacks.parts.shuffles import open_blocks
from ppseg_jax.attacks.parts.usual import as_usual, name_channels
from ppseg_jax.encryption import (
    BlockScramble,
    ColourShuffle,
    NegativePositive,
    PixelShuffle,
    RotateFlip,
    ops_of,
)
from ppseg_jax.encryption.blocks import join, split

_CHANGES = (RotateFlip, NegativePositive, ColourShuffle)


@declare(uses=("others",))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """Assembles each ciphertext on its own; the seed plays no part.

  Where other images are given, their colours say where in the frame the
  assembled fragments belong, which way up and in which sign.

  Notes: `border`, the mean step across the borders of the result.

  Raises UserError for a scheme that moves no blocks, or does more to them than
  is undone here.
  """
  del seed
  _check(knowledge)
  scheme = knowledge.scheme
  shuffles = ops_of(scheme, PixelShuffle)
  changed = [bool(ops_of(scheme, kind)) for kind in _CHANGES]
  forms = make_forms(*changed)
  moved = _count_moved(knowledge)
  found, borders = [], []
  for blocks in split(knowledge.ciphertexts, knowledge.block):
    if shuffles:
      blocks, _ = open_blocks(
          blocks, scheme, shuffles[0].unit, budget.rounds
      )
      if knowledge.others is not None and shuffles[0].unit == "value":
        blocks = name_channels(blocks, knowledge.others)
    ways = [blocks]
    if shuffles:
      ways = list(symmetries(blocks))
    tries = [assembly.make_pieces(way, forms, knowledge) for way in ways]
    laid = [(pieces, assembly.assemble(pieces)) for pieces in tries]
    if moved < len(blocks) and not any(changed):
      if shuffles:
        blocks = place_symmetry(blocks, knowledge)
      pieces = assembly.make_pieces(blocks, forms, knowledge)
      laid += [(pieces, table)
               for table in put_back(pieces, moved, budget.rounds)]
    # Of the blocks that the cipher leaves in place most should lie there.
    left = (len(blocks) - moved) / 2
    good = [way for way in laid if _in_place(way[1]) >= left] or laid
    pieces, table = max(good, key=lambda way: way[0].likelihood(way[1]))
    laid = pieces.picture(table)
    borders.append(border(laid, knowledge.grid))
    found.append(_as_usual(join(laid[None], knowledge.grid)[0], knowledge))
  return Outcome(np.stack(found), {"border": float(np.mean(borders))})


def _check(knowledge: Knowledge) -> None:
  """Raises UserError for what is not undone here."""
  scheme = knowledge.scheme
  if not ops_of(scheme, BlockScramble):
    raise refuse("jigsaw", scheme, "its blocks are at their places.")
  shuffles = ops_of(scheme, PixelShuffle)
  if any(op.scope == "block" for op in shuffles):
    raise refuse(
        "jigsaw", scheme,
        "each block is shuffled by its own permutation, which leaves no"
        " borders to fit; see 'layout'."
    )
  changes = [op for kind in _CHANGES for op in ops_of(scheme, kind)]
  whole = all(
      op.scope == "block" and getattr(op, "unit", "block") == "block"
      and not getattr(op, "cell", 0) for op in changes
  )
  if not whole or (changes and shuffles):
    raise refuse("jigsaw", scheme,
                 "it tries turns, signs and colour orders of whole blocks that"
                 " are not shuffled inside; see 'layout'.")
  if knowledge.block < 2 or math.prod(knowledge.grid) < 3:
    raise refuse("jigsaw", scheme,
                 "it needs three blocks or more, of at least 2 pixels a side.")


def _count_moved(knowledge: Knowledge) -> int:
  """Blocks of an image that moved, as the cipher counts them."""
  place = np.zeros((1, math.prod(knowledge.grid), 1))
  counts = []
  for op in ops_of(knowledge.scheme, BlockScramble):
    size, regions = op.to_regions(place, knowledge.grid).shape[:2]
    counts.append(math.floor(op.fraction * size + 0.5) * regions)
  return max(counts)


def _in_place(table: np.ndarray) -> int:
  """How many pieces lie where the ciphertext has them."""
  return int((table[..., 0].ravel() == np.arange(table[..., 0].size)).sum())


def put_back(
    pieces: assembly.Pieces, moved: int, rounds: int
) -> list[np.ndarray]:
  """Tables in which all but a share of the blocks lie as they came.

  In each round those that fit worst where they lie are taken out, as many as
  moved, and put where they fit best.

  Args:
    pieces: in one form, and not turned as a whole.
    moved: how many blocks.
    rounds: at most.

  Returns:
    The table of each round, first that of the blocks as they came.
  """
  place = np.arange(math.prod(pieces.grid)).reshape(pieces.grid)
  table = np.stack([place, np.zeros_like(place)], -1)
  found = [table]
  for _ in range(rounds):
    out = assembly.worst(pieces, table, moved)
    table = table.copy()
    table[np.unravel_index(out, pieces.grid)] = assembly.EMPTY
    table = assembly.fill(pieces, table)
    found.append(table)
  return found


def _as_usual(image: np.ndarray, knowledge: Knowledge) -> np.ndarray:
  """Of what borders cannot tell, what is most like other images."""
  others = knowledge.others
  if ops_of(knowledge.scheme, NegativePositive):
    image = as_usual([image, 255 - image], others)
  if others is not None and ops_of(knowledge.scheme, ColourShuffle):
    image = name_channels(image, others)
  return image
