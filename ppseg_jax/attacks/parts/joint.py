"""What several views of a scene show together: pictures that agree with all.

A view is a window of the picture, its blocks cut from the window's corner. What
it tells is, of each block, the means of groups of sorted values; the picture
agrees with it where the means of the same groups, by its own ranks, are those.
"""

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter

from ppseg_jax.attacks.parts.knowledge import (
    Knowledge,
    level_of,
    mixes_channels,
)
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.encryption.schemes import squares_of

# Chosen on two frames of CamVid val at 96x128 with blocks of 8.
_SMOOTH, _LEAST = 0.25, 0.3  # sigma of the first turn in blocks, last in pixels
_BLUR, _DOUBT = 15.0, 5.0  # grey levels of noise that blur a pixel, halve steps


@dataclasses.dataclass(frozen=True)
class View:
  """What is known of a window of the picture.

  Attributes:
    told: [N, G, C], the means of the groups of each block, ascending; C is 1
      where channels are mixed, for the grey picture.
    shape: (rows, columns) of blocks.
    side: of a block in pixels.
    corner: (row, column) of the window in the picture, in pixels.
  """

  told: np.ndarray
  shape: tuple[int, int]
  side: int
  corner: tuple[int, int] = (0, 0)

  def window(self, picture: np.ndarray) -> np.ndarray:
    """What the view shows of [H, W, C], not a copy."""
    (top, left), (rows, columns) = self.corner, self.shape
    return picture[top : top + rows * self.side,
                   left : left + columns * self.side]

  def blocks(self, picture: np.ndarray) -> np.ndarray:
    """Of [H, W, C], the blocks' values [N, P, C]."""
    found = split(self.window(picture)[None], self.side)[0]
    return found.reshape(len(self.told), self.side**2, -1)

  def groups(self, ordered: np.ndarray) -> np.ndarray:
    """Sorted values [N, P, C] -> the means of the groups [N, G, C]."""
    n, _, c = ordered.shape
    return ordered.reshape(n, self.told.shape[1], -1, c).mean(2)

  def agree(self, picture: np.ndarray, step: float) -> None:
    """Moves the window, in the picture, by `step` of the way to what was told.

    That is the nearest picture that agrees, for step 1.
    """
    values = self.blocks(picture)
    order = values.argsort(1, kind="stable")
    change = self.told - self.groups(np.take_along_axis(values, order, 1))
    size = self.side**2 // change.shape[1]
    np.put_along_axis(
        values, order,
        np.take_along_axis(values, order, 1)
        + step * np.repeat(change, size, 1), 1,
    )
    self.window(picture)[:] = self.laid(values)

  def laid(self, values: np.ndarray) -> np.ndarray:
    """The inverse of `blocks`, of the window alone."""
    squares = values.reshape(1, -1, self.side, self.side, values.shape[-1])
    return join(squares, self.shape)[0]


def read(knowledge: Knowledge, cipher: np.ndarray) -> View:
  """The view of a ciphertext, uint8 [h, w, 3], at corner (0, 0)."""
  level = level_of(knowledge.scheme)
  side = knowledge.block * squares_of(knowledge.scheme)
  height, width = cipher.shape[:2]
  values = split(cipher[None], side)[0].astype(np.float32)
  values = values.reshape(len(values), side * side, 3)
  if mixes_channels(knowledge.scheme):  # grey: three values at a time
    values = np.sort(values.reshape(len(values), -1), 1)
    values = values.reshape(len(values), side * side, 3).mean(2, keepdims=True)
  else:
    values = np.sort(values, 1)
  groups = knowledge.groups or (level.groups if level else 0)
  if not groups or side * side % groups:
    groups = side * side
  told = values.reshape(len(values), groups, -1, values.shape[-1]).mean(2)
  return View(told, (height // side, width // side), side)


def solve(
    views: list[View], shape: tuple[int, int], turns: int, noise: float,
    rng: np.random.Generator,
) -> np.ndarray:
  """A picture that agrees with the views, and is smooth where they say nothing.

  It begins as the mean of their mosaics. In each turn it is smoothed, less from
  turn to turn, and then brought to agree with one view after another, by a
  smaller step the more noise there is in what was told.

  Args:
    views: at their corners; the first is of the whole picture.
    shape: (height, width) of the picture.
    turns: see above.
    noise: standard deviation of what was told, in grey levels.
    rng: chooses the order of the views.

  Returns:
    float32 [H, W, C].
  """
  picture = np.zeros((*shape, views[0].told.shape[-1]), np.float32)
  seen = np.zeros((*shape, 1), np.float32)
  for view in views:
    mosaic = np.repeat(view.told.mean(1, keepdims=True), view.side**2, 1)
    view.window(picture)[:] += view.laid(mosaic)
    view.window(seen)[:] += 1
  picture /= seen
  first = _SMOOTH * views[0].side
  last = min(_LEAST + noise / _BLUR, first)
  step = 1 / (1 + noise / _DOUBT)
  for sigma in np.geomspace(first, last, turns):
    picture = gaussian_filter(picture, sigma, axes=(0, 1))
    for number in rng.permutation(len(views)):
      views[number].agree(picture, step)
  if noise:
    picture = gaussian_filter(picture, last, axes=(0, 1))
  return picture


def place(views: list[View], picture: np.ndarray) -> list[View]:
  """The views at the corners where the picture differs least from them.

  Every corner is tried at which a window lies in the picture.

  Args:
    views: of one size.
    picture: [H, W, C].
  """
  rows, columns = (
      whole - count * views[0].side + 1
      for whole, count in zip(picture.shape, views[0].shape, strict=False)
  )
  errors = np.empty((rows * columns, len(views)))
  for number in range(len(errors)):
    there = dataclasses.replace(views[0], corner=divmod(number, columns))
    found = there.groups(np.sort(there.blocks(picture), 1))
    errors[number] = [((found - view.told) ** 2).mean() for view in views]
  return [dataclasses.replace(view, corner=divmod(int(number), columns))
          for view, number in zip(views, errors.argmin(0), strict=True)]
