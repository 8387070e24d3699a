"""Assembles blocks to a picture by their borders and their colours.

Source: Gallagher, CVPR 2012: best-fitting pairs first, never one over another.
Where fragments lie is decided by the colours of other images, which is ours.
"""

import dataclasses

import numpy as np

from ppseg_jax.attacks.parts import borders
from ppseg_jax.attacks.parts.forms import Forms
from ppseg_jax.attacks.parts.knowledge import Knowledge
from ppseg_jax.attacks.parts.regions import allowed_cells
from ppseg_jax.encryption.blocks import split

_SURE = 0.75  # of the next best's misfit, above which pairs are not joined
_SMALLEST = 4  # pieces of a fragment that is laid as a whole
_WAYS = 24  # to lay a fragment, likeliest by colour, that borders decide among
_SIDES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])  # right, down, left, up
_OPPOSITE = (2, 3, 0, 1)
EMPTY = -1  # piece of a cell that none lies in


@dataclasses.dataclass(frozen=True)
class Pieces:
  """The blocks of an image, in all their forms, and where they may belong.

  Attributes:
    forms: that a block may have, F of them.
    grid: rows and columns of the frame, N cells.
    shapes: every form of every block, uint8 [F, N, M, M, C].
    strips: what each side of them should meet, float32 [4, F, N, M*C]; sides
      are right, down, left, up.
    colour: log p of a block's mean colour in a cell, up to a constant, by
      `forms.tint`, float32 [K, N, N]; 0 without other images.
    allowed: whether a block may lie in a cell, bool [N, N].
    step: the mean step across borders in other images; 16 without any.
  """

  forms: Forms
  grid: tuple[int, int]
  shapes: np.ndarray
  strips: np.ndarray
  colour: np.ndarray
  allowed: np.ndarray
  step: float

  def picture(self, table: np.ndarray) -> np.ndarray:
    """Blocks in row-major order, uint8 [N, M, M, C], of a full table."""
    piece, form = np.moveaxis(table, -1, 0).reshape(2, -1)
    return self.shapes[form, piece]

  def likelihood(self, table: np.ndarray) -> float:
    """log p of how blocks lie in a full table, a block, up to a constant."""
    piece, form = np.moveaxis(table, -1, 0).reshape(2, -1)
    usual = self.colour[self.forms.tint[form], piece, np.arange(len(piece))]
    unlike = 2 * borders.border(self.picture(table), self.grid)
    return float(usual.mean() - unlike / self.step)  # two borders a block


def make_pieces(
    blocks: np.ndarray, forms: Forms, knowledge: Knowledge
) -> Pieces:
  """The pieces of one image, of blocks uint8 [N, M, M, C]."""
  shapes = forms.apply(blocks)
  n = len(blocks)
  colour = np.zeros((forms.tint.max() + 1, n, n), np.float32)
  step = 16.0
  if knowledge.others is not None:
    theirs = split(knowledge.others, knowledge.block)
    usual = theirs.mean((2, 3), dtype=np.float32)  # [K, N, C]
    mean, var = usual.mean(0), usual.var(0) + 16.0
    own = shapes.mean((2, 3), dtype=np.float32)  # [F, N, C]
    for tint, form in zip(*np.unique(forms.tint, return_index=True),
                          strict=True):
      off = own[form][:, None] - mean
      # The mean over channels: they tell much the same.
      colour[tint] = -0.5 * (off**2 / var + np.log(var)).mean(-1)
    step = 1 + float(np.mean(
        [borders.border(x, knowledge.grid) for x in theirs[:16]]
    ))
  return Pieces(forms, knowledge.grid, shapes, _borders(shapes), colour,
                allowed_cells(knowledge), step)


def _borders(shapes: np.ndarray) -> np.ndarray:
  """A line drawn on across each border: value plus half the last slope."""
  x = shapes.astype(np.float32)
  pairs = ((x[:, :, :, -1], x[:, :, :, -2]), (x[:, :, -1], x[:, :, -2]),
           (x[:, :, :, 0], x[:, :, :, 1]), (x[:, :, 0], x[:, :, 1]))
  return np.stack([
      (1.5 * last - 0.5 * inner).reshape(*x.shape[:2], -1)
      for last, inner in pairs
  ])


def assemble(pieces: Pieces) -> np.ndarray:
  """The table of all pieces, [rows, columns, 2]: piece and form by cell."""
  return fill(pieces, _lay(pieces, _fragments(pieces)))


def _edges(pieces: Pieces) -> list[tuple[float, int, int, int, int]]:
  """The likeliest neighbours: (misfit over the next best's, i, j, side, form).

  With block i as it is, j lies on that side of it in that form. Where several
  fit equally well, as blocks of one colour, none is likeliest.
  """
  strips, forms = pieces.strips, pieces.forms
  count, n = strips.shape[1:3]
  best = np.empty((4, n), int)
  cost, second = np.empty((2, 4, n), np.float32)
  for side in range(4):
    theirs = strips[_OPPOSITE[side]].reshape(count * n, -1)
    for i in range(n):
      unlike = abs(theirs - strips[side, 0, i]).mean(1)
      unlike[i::n] = np.inf
      best[side, i] = unlike.argmin()
      cost[side, i], second[side, i] = np.partition(unlike, 1)[:2]
  form, other = np.divmod(best, n)
  # The side of the other block, as it is, that is touched.
  facing = _SIDES[np.array(_OPPOSITE)]
  turned = np.einsum("fij,sj->fsi", forms.turns, _SIDES)
  touched = (turned == facing[:, None, None]).all(-1).argmax(-1)  # [4, F]
  touched = touched[np.arange(4)[:, None], form]
  next_best = np.minimum(second, second[touched, other])
  ratio = cost / (next_best + 1)
  return [
      (float(ratio[s, i]), int(i), int(other[s, i]), int(s), int(form[s, i]))
      for s, i in np.argwhere((cost < next_best) & (ratio <= _SURE))
  ]


def _fragments(pieces: Pieces) -> list[dict[int, tuple[int, int, int]]]:
  """Fragments, {piece: (row, column, form)} each, largest first."""
  forms, grid = pieces.forms, pieces.grid
  inverse = forms.inverse
  fragment = [{i: (0, 0, 0)} for i in range(pieces.strips.shape[2])]
  frames = {grid, grid[::-1]} if forms.moves.any() else {grid}
  for _, i, j, side, form in sorted(_edges(pieces)):
    one, two = fragment[i], fragment[j]
    if one is two:
      continue
    y, x, mine = one[i]
    v, u, theirs = two[j]
    change = forms.after[forms.after[mine, form], inverse[theirs]]
    turn = forms.turns[change]
    corner = (y, x) + forms.turns[mine] @ _SIDES[side] - turn @ (v, u)
    cells = np.array([cell[:2] for cell in two.values()]) @ turn.T + corner
    moved = [tuple(cell) for cell in cells.tolist()]
    taken = {cell[:2] for cell in one.values()}
    if not taken.isdisjoint(moved):
      continue
    extent = np.ptp(np.array([*taken, *moved]), 0)
    if not any((extent < frame).all() for frame in frames):
      continue
    one.update({
        k: (*cell, int(forms.after[change, old[2]]))
        for (k, old), cell in zip(two.items(), moved, strict=True)
    })
    for k in two:
      fragment[k] = one
  unique = {id(part): part for part in fragment}
  return sorted(unique.values(), key=len, reverse=True)


def _lay(
    pieces: Pieces, fragments: list[dict[int, tuple[int, int, int]]]
) -> np.ndarray:
  """The table with the larger fragments where they are free and likeliest.

  A fragment is tried in every form and place; of those where its colours are
  most usual the one counts that fits what lies beside it. Without other images
  all are equally usual, and the first ones are taken. A fragment that fits
  nowhere is left to be put down piece by piece.
  """
  forms, (rows, columns) = pieces.forms, pieces.grid
  table = np.full((rows, columns, 2), EMPTY)
  for part in fragments:
    if len(part) < _SMALLEST:
      break
    numbers = np.array(list(part))
    lie = np.array(list(part.values()))
    ways = []
    for change in range(len(forms.moves)):
      cells = lie[:, :2] @ forms.turns[change].T
      cells -= cells.min(0)
      spare = np.maximum(np.array(pieces.grid) - cells.max(0), 0)
      corners = np.stack(np.indices(spare), -1).reshape(-1, 1, 2)
      y, x = np.moveaxis(cells + corners, -1, 0)  # [corners, pieces]
      form = forms.after[change, lie[:, 2]]
      cell = y * columns + x
      usual = pieces.colour[forms.tint[form], numbers, cell].sum(1)
      free = (table[y, x, 0] == EMPTY) & pieces.allowed[numbers, cell]
      free = np.flatnonzero(free.all(1))
      best = free[np.argsort(-usual[free], kind="stable")[:_WAYS]]
      ways += [(float(usual[k]), y[k], x[k], form) for k in best]
    ways = sorted(ways, key=lambda way: -way[0])[:_WAYS]
    if ways:
      _, y, x, form = max(ways, key=lambda way: way[0] - _misfit(
          pieces, table, numbers, *way[1:]) / pieces.step)
      table[y, x, 0], table[y, x, 1] = numbers, form
  return table


def _misfit(
    pieces: Pieces, table: np.ndarray, numbers: np.ndarray, y: np.ndarray,
    x: np.ndarray, form: np.ndarray,
) -> float:
  """How badly pieces in those cells and forms meet what lies there already."""
  total = 0.0
  for side, (dy, dx) in enumerate(_SIDES):
    v, u = y + dy, x + dx
    inside = (v >= 0) & (v < len(table)) & (u >= 0) & (u < table.shape[1])
    near = np.flatnonzero(inside)
    near = near[table[v[near], u[near], 0] != EMPTY]
    piece, their = table[v[near], u[near]].T
    meet = pieces.strips[_OPPOSITE[side], their, piece]
    unlike = abs(pieces.strips[side, form[near], numbers[near]] - meet)
    total += float(unlike.mean(-1).sum())
  return total


def fill(pieces: Pieces, table: np.ndarray) -> np.ndarray:
  """The table with the pieces that lie nowhere put where they fit best.

  One by one, cells with more neighbours first.
  """
  table = table.copy()
  rows, columns = pieces.grid
  rest = np.setdiff1d(np.arange(rows * columns), table[..., 0])
  score = {}  # of an empty cell: neighbours, [F, pieces left over]

  def look(y: int, x: int) -> None:
    cell = y * columns + x
    total, met = pieces.colour[:, rest, cell][pieces.forms.tint], 0
    for side, (dy, dx) in enumerate(_SIDES):
      v, u = y + dy, x + dx
      if 0 <= v < rows and 0 <= u < columns and table[v, u, 0] != EMPTY:
        piece, form = table[v, u]
        meet = pieces.strips[_OPPOSITE[side], form, piece]
        unlike = abs(pieces.strips[side][:, rest] - meet).mean(-1)
        total -= unlike / pieces.step
        met += 1
    if met or start:
      score[y, x] = met, np.where(pieces.allowed[rest, cell], total, -np.inf)

  empty = {(int(y), int(x)) for y, x in np.argwhere(table[..., 0] == EMPTY)}
  start = len(empty) == rows * columns  # nothing lies beside any cell
  for y, x in sorted(empty):
    look(y, x)
  while empty:
    at = max(score, key=lambda cell: (score[cell][0], score[cell][1].max()))
    _, best = score.pop(at)
    form, k = np.unravel_index(best.argmax(), best.shape)
    table[at] = rest[k], form
    empty.remove(at)
    rest = np.delete(rest, k)
    score = {cell: (met, np.delete(total, k, 1))
             for cell, (met, total) in score.items()}
    for y, x in (np.array(at) + _SIDES).tolist():
      if (y, x) in empty:
        look(y, x)
  return table


def worst(pieces: Pieces, table: np.ndarray, count: int) -> np.ndarray:
  """The cells whose pieces fit worst where they lie, int [count].

  By the median over the sides: a piece in place may lie beside one that is not.
  """
  piece, form = np.moveaxis(table, -1, 0)
  unlike = np.full((4, *pieces.grid), np.nan)
  strips = pieces.strips
  for side, (here, there) in enumerate((
      (np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]),
      (np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1]),
  )):
    mine = strips[side, form[here], piece[here]]
    meet = strips[_OPPOSITE[side], form[there], piece[there]]
    unlike[side][here] = abs(mine - meet).mean(-1)
  return np.argsort(-np.nanmedian(unlike, 0).ravel(), kind="stable")[:count]
