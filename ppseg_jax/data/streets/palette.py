"""Colours. The classes share them, so that colour does not tell a class."""

import random

from ppseg_jax.data.streets.scene import RGB, Scene

DARK = (28, 28, 32)
GLASS = (46, 54, 64)


def mineral(pick: random.Random, low: float = 60.0,
            high: float = 215.0) -> RGB:
  """Stone, plaster, brick, concrete: every built surface draws from these."""
  tints = ((1, 1, 1), (1, 1, 1), (1.0, 0.99, 0.96), (1.08, 1.0, 0.86),
           (1.12, 0.98, 0.8), (1.25, 0.88, 0.72), (1.3, 0.8, 0.68),
           (0.92, 1.0, 1.08), (0.96, 1.04, 0.94), (1.1, 0.95, 0.98))
  level = pick.uniform(low, high)
  return tuple(level * t * pick.uniform(0.94, 1.06) for t in pick.choice(tints))


def paint(pick: random.Random) -> RGB:
  """Car paint, cloth, shop fronts: any colour, often a dull one."""
  if pick.random() < 0.55:
    return mineral(pick, 25, 235)
  level, spread = pick.uniform(40, 180), pick.uniform(0.2, 0.9)
  return tuple(level * (1 + spread * pick.uniform(-1, 1)) for _ in range(3))


def plant(scene: Scene) -> RGB:
  """Leaves and grass share their greens, yellows and browns."""
  pick = scene.pick
  tints = (((0.75, 1.0, 0.5), (0.8, 1.0, 0.65), (0.95, 1.0, 0.55),
            (0.65, 0.9, 0.6)),
           ((1.1, 0.9, 0.4), (1.2, 0.75, 0.4), (0.95, 0.95, 0.5),
            (1.0, 0.8, 0.55)),
           ((1.0, 0.92, 0.8), (0.85, 0.95, 0.7), (1.05, 1.0, 0.9),
            (0.75, 0.85, 0.6)))[scene.season]
  level = pick.uniform(60, 165)
  return tuple(level * t * pick.uniform(0.9, 1.1) for t in pick.choice(tints))


def dimmed(rgb: RGB, light: float) -> RGB:
  """The colour at another brightness."""
  return tuple(c * light for c in rgb)
