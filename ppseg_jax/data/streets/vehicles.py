"""The vehicles: cars, lorries, buses and trams."""

import math
import random
from collections.abc import Sequence

from ppseg_jax.data.streets import palette
from ppseg_jax.data.streets.canvas import rect
from ppseg_jax.data.streets.classes import BUS, CAR, TRAIN, TRUCK
from ppseg_jax.data.streets.extrude import (
    AWAY,
    TOWARDS,
    EndPart,
    FlankPart,
    Shape,
    draw_vehicle,
)
from ppseg_jax.data.streets.palette import DARK, GLASS
from ppseg_jax.data.streets.scene import RGB, Scene, Shadow

_TAIL_LAMP = (215, 30, 30)
_HEADLAMP = (255, 250, 225)


def add_vehicle(scene: Scene, label: int, x: float, z: float,
                heading: int) -> float:
  """Queues a vehicle; returns the depth at which it ends."""
  maker = {CAR: _car, TRUCK: _truck, BUS: _bus, TRAIN: _tram}[label]
  shape = maker(scene.pick, scene.night)
  if heading in (AWAY, TOWARDS):
    far, wide = z + shape.size, shape.half
  else:
    far, wide = z + 2 * shape.half, shape.size / 2
  scene.shadows.append(Shadow(x, z - 0.3, far + 0.3, wide * 1.05))
  scene.add(far, x, lambda: draw_vehicle(scene, shape, x, z, heading, label),
            near=z)
  return far


def _car(pick: random.Random, night: bool) -> Shape:
  paint = palette.paint(pick)
  size, roof = pick.uniform(3.8, 4.7), pick.uniform(1.42, 1.62)
  style = pick.choice(("hatch", "sedan", "van"))
  belt = roof * 0.62
  rear = {"hatch": (0.12, 0.55), "sedan": (0.75, 1.3), "van": (0.02, 0.15)}
  r0, r1 = rear[style]
  roof += 0.35 if style == "van" else 0.0
  f0, f1 = size * pick.uniform(0.56, 0.62), size * pick.uniform(0.72, 0.78)
  profile = [(0, 0.3), (0, belt), (r0, belt + 0.03), (r1, roof), (f0, roof),
             (f1, belt + 0.02), (size - 0.1, belt * 0.84), (size, 0.3)]
  skins = [paint, paint, GLASS, paint, GLASS, paint, paint]
  mid = (r1 + f0) / 2
  flank = [(palette.dimmed(paint, 0.5), rect(0.1, size - 0.1, 0.22, 0.36))]
  for a, b, c, d in ((r0 + 0.15, mid - 0.05, r1 + 0.1, mid - 0.05),
                     (mid + 0.05, f1 - 0.2, mid + 0.05, f0 - 0.03)):
    flank.append((GLASS, ((a, belt), (b, belt), (d, roof - 0.1),
                          (c, roof - 0.1))))
  flank += _wheels((size * 0.19, size * 0.81), 0.33)
  return Shape(0.88, profile, skins, paint, flank,
               *_ends(night, 0.88, belt * 0.84, paint))


def _truck(pick: random.Random, night: bool) -> Shape:
  """A lorry: a plain box behind a cab of another colour."""
  box, cab = palette.paint(pick), palette.paint(pick)
  size, high = pick.uniform(6.5, 10), pick.uniform(2.9, 3.8)
  cut, top = size - 2.0, pick.uniform(2.3, 2.9)
  profile = [(0, 0.7), (0, high), (cut, high), (cut + 0.1, top),
             (size - 0.3, top), (size, 1.5), (size, 0.4)]
  skins = [box, box, box, cab, GLASS, cab]
  flank = [(DARK, rect(0, cut, 0.4, 0.8)),
           (cab, rect(cut + 0.1, size, 0.45, 1.5)),
           (cab, ((cut + 0.1, 1.5), (size, 1.5), (size - 0.3, top),
                  (cut + 0.1, top))),
           (GLASS, rect(cut + 0.5, size - 0.2, 1.5, top - 0.3)),
           (palette.dimmed(box, 0.7), rect(0, cut, high * 0.5, high * 0.56)),
           *_wheels((1.0, 2.1, size - 1.0), 0.48)]
  back, face = _ends(night, 1.2, 0.95, cab)
  seam = palette.dimmed(box, 0.6)
  back += [(seam, rect(-0.04, 0.04, 0.9, high), False),
           (seam, rect(-1.2, 1.2, high - 0.15, high), False),
           (seam, rect(-1.2, 1.2, 0.7, 0.82), False)]
  return Shape(1.2, profile, skins, box, flank, back, face)


def _bus(pick: random.Random, night: bool) -> Shape:
  """One even body with a band of windows, doors and visible wheels."""
  paint, band = palette.paint(pick), palette.paint(pick)
  size, high, half = pick.uniform(9, 13), pick.uniform(2.9, 3.2), 1.27
  profile = [(0, 0.35), (0, high), (size - 0.1, high), (size, 1.2),
             (size, 0.35)]
  flank = [(band, rect(0, size, 0.35, 0.8))]
  panes = int(size / 1.4)
  for i in range(panes):
    at = 0.3 + i * (size - 0.5) / panes
    flank.append((GLASS, rect(at, at + 1.15, 1.3, 2.45)))
  for at in (size * 0.45, size - 1.5):
    flank.append((palette.dimmed(band, 0.5), rect(at, at + 1.1, 0.4, 2.5)))
  flank += _wheels((size * 0.22, size * 0.76), 0.48)
  back, face = _ends(night, half, 0.95, paint)
  back.append((GLASS, rect(-1.05, 1.05, 1.6, 2.5), False))
  board = ((235, 150, 40), rect(-0.8, 0.8, high - 0.4, high - 0.12), night)
  return Shape(half, profile, [paint, paint, GLASS, paint], paint, flank,
               back + [board], face + [board])


def _tram(pick: random.Random, night: bool) -> Shape:
  """Long, pointed at both ends, in sections, its wheels behind skirts."""
  paint, skirt, half = palette.paint(pick), palette.paint(pick), 1.3
  size, high = pick.uniform(18, 30), pick.uniform(3.3, 3.6)
  profile = [(0, 0.15), (0, 1.3), (0.7, high - 0.3), (1.2, high),
             (size - 1.2, high), (size - 0.7, high - 0.3), (size, 1.3),
             (size, 0.15)]
  skins = [paint, GLASS, paint, paint, paint, GLASS, paint]
  flank = [(skirt, rect(0, size, 0.15, 1.1)),
           (GLASS, rect(0.8, size - 0.8, 1.5, 2.6))]
  for i in range(1, int(size / 2)):
    flank.append((paint, rect(i * 2 - 0.12, i * 2 + 0.12, 1.5, 2.6)))
  for i in (1, 2):
    flank.append((DARK, rect(size * i / 3 - 0.3, size * i / 3 + 0.3, 0.3,
                             high - 0.1)))
  back, face = (
      [(skirt, rect(-half, half, 0.15, 1.0), False)]
      + [(lamp, rect(s * 1.1, s * 0.75, 0.65, 0.9), night) for s in (-1, 1)]
      for lamp in (_TAIL_LAMP, _HEADLAMP))
  return Shape(half, profile, skins, paint, flank, back, face)


def _wheels(spots: Sequence[float], r: float) -> list[FlankPart]:
  """Tyre and hub of the wheels of radius r at `spots` along a vehicle."""
  def ring(at: float, radius: float) -> list:
    return [(at + radius * math.cos(i * math.pi / 5),
             r + radius * math.sin(i * math.pi / 5)) for i in range(10)]

  return [part for at in spots for part in (
      (DARK, ring(at, r)), ((125, 125, 128), ring(at, r * 0.5)))]


def _ends(night: bool, half: float, up: float, paint: RGB,
          ) -> tuple[list[EndPart], list[EndPart]]:
  """Tyres, bumper, lamps and plate of the back; of the face, a grille too."""
  bumper = (palette.dimmed(paint, 0.6), rect(-half, half, 0.25, 0.5), False)
  low = [(DARK, rect(s * half, s * half * 0.68, 0.0, 0.35), False)
         for s in (-1, 1)] + [bumper]
  grille = (DARK, rect(-half * 0.5, half * 0.5, up - 0.25, up), False)
  plate = ((225, 225, 215), rect(-0.28, 0.28, 0.42, 0.56), False)

  def lamps(rgb: RGB) -> list[EndPart]:
    return [(rgb, rect(s * half * 0.97, s * half * 0.6, up - 0.22, up), night)
            for s in (-1, 1)]

  return (low + lamps(_TAIL_LAMP) + [plate],
          low + [grille] + lamps(_HEADLAMP) + [plate])
