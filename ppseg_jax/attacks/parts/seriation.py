"""Lays positions out on a grid from how differently they behave.

One permutation moves the positions of all blocks of an image alike, so that
the mean squared difference of two positions over the blocks is that of the two
plain positions. It grows with their distance, which is enough to find both.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import shortest_path

_OTHER_CHANNEL = np.array([[3, 2, 1], [2, 3, 0], [1, 0, 3]])


def distances(rows: np.ndarray) -> np.ndarray:
  """Root mean squared differences of rows [L, N], float64 [L, L]."""
  rows = rows.astype(np.float64)
  gram = rows @ rows.T
  power = np.diag(gram)
  squared = power[:, None] + power[None] - 2 * gram
  return np.sqrt(np.maximum(squared, 0) / rows.shape[1])


def embed(distance: np.ndarray, neighbours: int) -> np.ndarray:
  """Two coordinates for each position, float64 [L, 2].

  Isomap (Tenenbaum et al., Science 2000): a graph of nearest neighbours,
  lengths of shortest paths, classical scaling.
  """
  length = len(distance)
  nearest = np.argsort(distance, 1)[:, 1:neighbours + 1]
  graph = np.zeros_like(distance)  # 0 is no edge
  row = np.arange(length)[:, None]
  graph[row, nearest] = np.maximum(distance[row, nearest], 1e-6)
  paths = shortest_path(graph, directed=False)
  apart = np.isinf(paths)
  if apart.any():
    paths[apart] = 2 * paths[~apart].max()
  squared = paths**2
  means = squared.mean(0)
  inner = -0.5 * (squared - means - means[:, None] + squared.mean())
  values, vectors = np.linalg.eigh(inner)
  return vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0))


def snap(points: np.ndarray, side: int, each: int) -> np.ndarray:
  """Cells of a side x side grid, `each` points a cell: int [L].

  The square's two coordinates have equal weight, so that the embedding comes
  turned by any angle. Upright, its marginals are flattest: the least kurtosis.
  """
  cells = np.stack(np.divmod(np.arange(side * side), side), -1)
  slots = cells.repeat(each, 0)

  def kurtosis(angle: float) -> float:
    points_at = _turn(points, angle)
    power = (points_at**2).mean(0)
    return float(((points_at**4).mean(0) / np.maximum(power**2, 1e-12)).sum())

  points = points - points.mean(0)
  turned = _turn(points, min(np.deg2rad(np.arange(0, 90, 2)), key=kurtosis))
  ranks = turned.argsort(0).argsort(0) + 0.5
  ranks = ranks / len(points) * side - 0.5
  cost = ((ranks[:, None] - slots[None]) ** 2).sum(-1)
  return linear_sum_assignment(cost)[1] // each


def _turn(points: np.ndarray, angle: float) -> np.ndarray:
  cos, sin = np.cos(angle), np.sin(angle)
  return points @ np.array([[cos, -sin], [sin, cos]])


class Grid:
  """The slots of a block, numbered position * channels + channel."""

  def __init__(self, side: int, channels: int):
    self.channels = channels
    place, channel = np.divmod(np.arange(side * side * channels), channels)
    y, x = np.divmod(place, side)
    down, across = abs(y[:, None] - y), abs(x[:, None] - x)
    kind = _OTHER_CHANNEL[channel[:, None], channel]
    # Slots whose pairs look alike: same offset, same pair of channels.
    self._key = (down * side + across) * 4 + kind
    self._keys = side * side * 4

  def predict(self, distance: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Distances of slots if rows lie at `slot`, as a mean over like pairs."""
    key = self._key[slot[:, None], slot].ravel()
    total = np.bincount(key, distance.ravel(), self._keys)
    count = np.bincount(key, minlength=self._keys)
    table = total / np.maximum(count, 1)
    predicted = table[self._key]
    np.fill_diagonal(predicted, 0)
    return predicted


def stress(grid: Grid, distance: np.ndarray, slot: np.ndarray) -> float:
  """How badly an arrangement explains the distances, relative, squared."""
  predicted = grid.predict(distance, slot)[slot[:, None], slot]
  off = distance / np.maximum(predicted, 1e-9) - 1
  np.fill_diagonal(off, 0)
  return float(np.mean(off**2))


def refine(
    grid: Grid,
    distance: np.ndarray,
    slot: np.ndarray,
    rounds: int,
    allowed: np.ndarray | None = None,
) -> np.ndarray:
  """Moves rows to where their distances to all others are explained best.

  Each round estimates from the present arrangement what distance every offset
  stands for, and assigns all rows anew against it (projected gradient of the
  quadratic assignment problem). First all distances weigh the same, which mends
  the coarse layout, then near ones more, which mends the fine one.

  Args:
    grid: of the slots.
    distance: of the rows, [L, L].
    slot: int [L], of each row; a permutation.
    rounds: for each of the three weightings.
    allowed: bool [L, L], whether a row may lie in a slot.

  Returns:
    The best arrangement met, by `stress`.
  """
  best, lowest = slot, stress(grid, distance, slot)
  squared = distance**2
  for power in (0, 1, 2):
    slot = best
    worse = 0
    for _ in range(rounds):
      predicted = grid.predict(distance, slot)
      weight = 1 / np.maximum(predicted, 1e-9) ** power
      np.fill_diagonal(weight, 0)
      near, far = weight[:, slot], (weight * predicted)[:, slot]
      fit = squared @ near.T - 2 * distance @ far.T
      fit += (far * predicted[:, slot]).sum(1)
      # A row's own place says nothing of where it belongs.
      fit -= (far * predicted[:, slot]).T
      if allowed is not None:
        fit = np.where(allowed, fit, fit.max() + 1e6 * np.ptp(fit) + 1)
      _, moved = linear_sum_assignment(fit)
      if (moved == slot).all():
        break
      slot = moved
      found = stress(grid, distance, slot)
      if found < lowest:
        best, lowest, worse = slot, found, 0
      else:
        worse += 1
        if worse == 2:
          break
  return best


def lay_out(
    distance: np.ndarray,
    side: int,
    channels: int,
    rounds: int,
    channel: np.ndarray | None = None,
    colour: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
  """Finds the slot of every row up to a symmetry of the square.

  Args:
    distance: [L, L], L = side * side * channels.
    side, channels: of the grid.
    rounds: see `refine`.
    channel: int [L] where the channel of each row is known.
    colour: float [L, N], the rows themselves; where channels are not known,
      the rows of a cell are told apart by them, alike in all cells.

  Returns:
    (slots int [L], stress).
  """
  grid = Grid(side, channels)
  length = len(distance)
  allowed = None
  if channel is not None:
    allowed = channel[:, None] == np.arange(length)[None] % channels
  starts = []
  for neighbours in (10, 6, 16):
    cell = snap(embed(distance, min(neighbours, length - 1)), side, channels)
    if channels == 1:
      slot = cell
    elif channel is not None:
      slot = _legal(cell, allowed, side, channels)
    else:
      slot = cell * channels + _tell_channels(colour, cell, channels)
    starts.append(slot)
  start = min(starts, key=lambda slot: stress(grid, distance, slot))
  slot = refine(grid, distance, start, rounds, allowed)
  return slot, stress(grid, distance, slot)


def _legal(
    cell: np.ndarray, allowed: np.ndarray, side: int, channels: int
) -> np.ndarray:
  """Slots near the cells, one row a slot, each in its channel."""
  y, x = np.divmod(np.arange(side * side * channels) // channels, side)
  cost = (cell[:, None] // side - y) ** 2 + (cell[:, None] % side - x) ** 2
  return linear_sum_assignment(np.where(allowed, cost, 1e9))[1]


def _tell_channels(
    rows: np.ndarray, cell: np.ndarray, channels: int
) -> np.ndarray:
  """The channel of each row, int [L], one of each kind a cell.

  What a channel adds to the mean of the cell is alike in all cells: k-means
  with one member a cell for each of the clusters.
  """
  members = np.argsort(cell, kind="stable").reshape(-1, channels)
  excess = rows[members].astype(np.float64)
  excess -= excess.mean(1, keepdims=True)
  flat = excess.reshape(-1, excess.shape[-1])
  axis = np.linalg.eigh(flat.T @ flat)[1][:, -1]
  kind = (excess @ axis).argsort(1).argsort(1)
  for _ in range(20):
    means = np.stack([excess[kind == k].mean(0) for k in range(channels)])
    cost = ((excess[:, :, None] - means) ** 2).sum(-1)
    new = np.stack([linear_sum_assignment(one)[1] for one in cost])
    if (new == kind).all():
      break
    kind = new
  channel = np.empty(len(rows), int)
  channel[members] = kind
  return channel
