"""Patterns of noise that give surfaces their texture."""

import functools
import random

import numpy as np
from PIL import Image

FINE, CLUMPED, CLOUDY = range(3)


@functools.lru_cache(maxsize=1)
def _tiles() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """FINE, CLUMPED and CLOUDY noise that repeats every 256, each float32
  [256, 256] in 0..1."""
  rng = np.random.Generator(np.random.Philox(key=[2024, 7]))

  def octave(cells: int) -> np.ndarray:
    grid = rng.random((cells, cells), dtype=np.float32)
    at = np.arange(256, dtype=np.float32) * cells / 256
    low = at.astype(int)
    t = at - low
    t = t * t * (3 - 2 * t)
    high = (low + 1) % cells
    rows = grid[low] * (1 - t)[:, None] + grid[high] * t[:, None]
    return rows[:, low] * (1 - t) + rows[:, high] * t

  def ranked(x: np.ndarray) -> np.ndarray:
    rank = x.ravel().argsort(kind="stable").argsort(kind="stable")
    return (rank / (x.size - 1)).astype(np.float32).reshape(x.shape)

  fine = octave(256) + 0.6 * octave(128)
  clumped = octave(32) + 0.6 * octave(64) + 0.4 * octave(128)
  cloudy = sum(octave(2**i) / 1.7**i for i in range(2, 8))
  return ranked(fine), ranked(clumped), ranked(cloudy)


def surface(kind: int, u: np.ndarray, v: np.ndarray,
            cells: float) -> np.ndarray:
  """Noise of a surface, float32 [R, C], at metres u and v, `cells` a metre.

  kind: FINE, CLUMPED or CLOUDY; u, [1, C] or [R, C]; v, [R, C] or [R, 1].
  """
  row = (v * cells).astype(np.int32) & 255
  column = (u * cells).astype(np.int32) & 255
  if row.shape[1] == 1:  # seen straight on: rows and columns are separate
    return _tiles()[kind].take(row[:, 0], 0).take(column[0], 1)
  return _tiles()[kind].ravel().take((row << 8) + column)


def clouds(pick: random.Random, rows: int, columns: int) -> np.ndarray:
  """A stretched piece of cloudy noise, float32 [rows, columns] in 0..1."""
  left, top = pick.uniform(0, 60), pick.uniform(0, 90)
  span = pick.uniform(60, 190)
  image = Image.fromarray(_tiles()[CLOUDY]).resize(
      (columns, rows), Image.Resampling.BILINEAR,
      (left, top, left + span, top + span * 0.8))
  return np.asarray(image)


def part(x: np.ndarray) -> np.ndarray:
  """What x is above the next whole number below it."""
  return x - np.floor(x)  # many times faster than x % 1
