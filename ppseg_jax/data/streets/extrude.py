"""Draws a vehicle: a side profile extruded across its width."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

from ppseg_jax.data.streets.canvas import Point
from ppseg_jax.data.streets.scene import RGB, Scene

# Ways a vehicle may face.
AWAY, TOWARDS, RIGHTWARDS, LEFTWARDS = 1, -1, 2, -2

Spot = tuple[float, float, float]  # along from the rear, across, up
FlankPart = tuple[RGB, Sequence[Point]]  # points (along, up)
EndPart = tuple[RGB, Sequence[Point], bool]  # points (across, up); does it glow


@dataclasses.dataclass
class Shape:
  """The looks of a vehicle, in metres from its rear, its middle and ground."""

  half: float  # of its width
  profile: list[Point]  # (along, up) from the rear over the roof to the front
  skins: list[RGB]  # of each edge of the profile
  side: RGB  # of the flanks
  flank: list[FlankPart]
  back: list[EndPart]
  face: list[EndPart]

  @functools.cached_property
  def size(self) -> float:
    """Its length."""
    return self.profile[-1][0]


@dataclasses.dataclass
class _Placed:
  """A vehicle in the scene, with pens that take spots on it."""

  scene: Scene
  shape: Shape
  x: float
  z: float
  heading: int
  label: int

  def place(self, along: float, across: float, up: float,
            ) -> tuple[Point, float]:
    """Canvas column and row of a spot, and its depth."""
    x, z, size = self.x, self.z, self.shape.size
    if self.heading == AWAY:
      x, z = x + across, z + along
    elif self.heading == TOWARDS:
      x, z = x - across, z + size - along
    else:
      sign = 1 if self.heading == RIGHTWARDS else -1
      x, z = x + sign * (along - size / 2), z + self.shape.half - sign * across
    return self.scene.project(x, up, z), z

  def poly(self, spots: Sequence[Spot], rgb: RGB, light: float = 1.0,
           glow: bool = False) -> None:
    """A filled polygon, hazed by its mean depth."""
    places = [self.place(*spot) for spot in spots]
    depth = sum(z for _, z in places) / len(places)
    self.scene.draw.polygon(
        [point for point, _ in places],
        fill=self.scene.tint(rgb, depth, self.label, light, glow))

  def visible(self, spots: Sequence[Spot]) -> bool:
    """Whether three spots run clockwise, as the outsides of a vehicle do."""
    (ax, ay), (bx, by), (cx, cy) = (self.place(*s)[0] for s in spots[:3])
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) > 0


def draw_vehicle(scene: Scene, shape: Shape, x: float, z: float, heading: int,
                 label: int) -> None:
  """Draws a vehicle whose nearest point is at depth z."""
  placed = _Placed(scene, shape, x, z, heading, label)
  _draw_skins(placed)
  _draw_flanks(placed)
  _draw_ends(placed)


def _draw_skins(placed: _Placed) -> None:
  half, strips = placed.shape.half, []
  for ((l0, h0), (l1, h1)), rgb in zip(
      itertools.pairwise(placed.shape.profile), placed.shape.skins,
      strict=True):
    quad = ((l0, -half, h0), (l1, -half, h1), (l1, half, h1), (l0, half, h0))
    if placed.visible(quad):
      flat = abs(l1 - l0) / (abs(l1 - l0) + abs(h1 - h0))
      depth = placed.place(*quad[0])[1]
      strips.append((-depth, quad, rgb, 0.8 + 0.3 * flat))
  for _, quad, rgb, light in sorted(strips, key=lambda strip: strip[0]):
    placed.poly(quad, rgb, light)


def _draw_flanks(placed: _Placed) -> None:
  shape = placed.shape
  for sign in (-1, 1):
    outline = [(along, sign * shape.half, up) for along, up in shape.profile]
    order = outline if sign > 0 else outline[::-1]
    if placed.visible((order[0], order[len(order) // 2], order[-1])):
      placed.poly(outline, shape.side,
                  1.08 if sign == placed.scene.sun else 0.75)
      for rgb, points in shape.flank:
        placed.poly([(along, sign * shape.half, up) for along, up in points],
                    rgb, 0.9)


def _draw_ends(placed: _Placed) -> None:
  shape = placed.shape
  for at, parts, turn in ((0.0, shape.back, 1), (shape.size, shape.face, -1)):
    out = shape.half * turn
    if placed.visible([(at, -out, 0), (at, -out, 1), (at, out, 1)]):
      for rgb, points, glow in parts:
        placed.poly([(at, across, up) for across, up in points], rgb,
                    glow=glow)
