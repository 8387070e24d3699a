"""What bounds the street: houses, walls, fences, hedges, woods, its end."""

import dataclasses
import functools
from collections.abc import Callable

from ppseg_jax.data.streets import built, plants
from ppseg_jax.data.streets.canvas import Point, Texture, draw_panel
from ppseg_jax.data.streets.classes import BUILDING, FENCE, VEGETATION, WALL
from ppseg_jax.data.streets.plan import Street
from ppseg_jax.data.streets.scene import Scene

_NEAR, _FAR = 2.0, 90.0  # metres: where the sides of the street begin and end

_ODDS = {  # of what stands on a plot
    "urban": (0.68, 0.12, 0.11, 0.03, 0.06),
    "suburb": (0.22, 0.22, 0.27, 0.15, 0.14),
    "highway": (0.06, 0.36, 0.3, 0.08, 0.2),
}
_KINDS = ("house", "wall", "fence", "hedge", "open")
_BOUNDS = {  # lowest and highest, class, texture
    "wall": (1.2, 4.5, WALL, built.wall),
    "fence": (1.0, 2.4, FENCE, built.fence),
    "hedge": (0.8, 2.4, VEGETATION, plants.hedge),
}


@dataclasses.dataclass
class _Plot:
  """Ground beside the street: its front is at x, from depth z to end."""

  x: float
  z: float
  end: float
  light: float  # on the front
  covered: bool  # whether a house on the plot before hides the end wall


def add_roadside(scene: Scene, street: Street) -> None:
  """Queues both sides of the street, plot after plot."""
  pick, odds = scene.pick, _ODDS[street.kind]
  for sign, side in street.sides.items():
    light = 1.1 if sign != scene.sun else 0.72
    light = light if scene.sunny else 0.95
    z, kind, last = _NEAR, pick.choices(_KINDS, odds)[0], None
    while z < _FAR:
      end = z + pick.uniform(7, 18) * (1 + z / 20)
      if street.cross and z < street.cross_end and end > street.cross:
        if z < street.cross - 1:
          end = street.cross
        else:
          z = street.cross_end
          end = z + pick.uniform(7, 18) * (1 + z / 20)
      if pick.random() < (0.8 if street.kind == "urban" else 0.35):
        kind = pick.choices(_KINDS, odds)[0]
      covered = last == "house" and z != street.cross_end
      _add_plot(scene, street, kind,
                _Plot(sign * side.front, z, end, light, covered))
      z, last = end, kind


def _add_plot(scene: Scene, street: Street, kind: str, plot: _Plot) -> None:
  """Queues what stands at the front of a plot, and what is behind."""
  pick, sign = scene.pick, 1 if plot.x > 0 else -1
  if kind == "house":
    _add_house(scene, street, plot, plot.x)
    return
  if kind in _BOUNDS:
    low, high, label, texture = _BOUNDS[kind]
    tall = pick.uniform(low, high)
    maker, corner = functools.partial(texture, scene, tall), (plot.x, plot.z)
    _add_panel(scene, corner, (plot.x, plot.end), tall, label, plot.light,
               maker)
    if kind == "wall":
      _add_panel(scene, corner, (plot.x + sign * 3, plot.z), tall, label, 0.9,
                 maker)
  if pick.random() < (0.15 if street.kind == "highway" else 0.6):
    _add_house(scene, street, plot, plot.x + sign * pick.uniform(4, 9))
  if pick.random() < 0.7:
    _add_woods(scene, plot)


def _add_house(scene: Scene, street: Street, plot: _Plot, x: float) -> None:
  """Queues a house with its front at x."""
  pick, corner = scene.pick, (x, plot.z)
  tall = pick.uniform(6, 22) if street.kind == "urban" else pick.uniform(4, 9)
  _add_panel(scene, corner, (x, plot.end), tall, BUILDING, plot.light,
             functools.partial(built.facade, scene, plot.end - plot.z, tall))
  if not plot.covered:
    deep = pick.uniform(8, 14)
    _add_panel(scene, corner, (x + (deep if x > 0 else -deep), plot.z), tall,
               BUILDING, 0.9,
               functools.partial(built.facade, scene, deep, tall))


def _add_woods(scene: Scene, plot: _Plot) -> None:
  pick, sign = scene.pick, 1 if plot.x > 0 else -1
  for _ in range(pick.randint(1, 2)):
    x = plot.x + sign * pick.uniform(1, 9)
    z = pick.uniform(plot.z, plot.end)
    draw = pick.choice((plants.draw_tree, plants.draw_tree, plants.draw_bush))
    if z > 4:
      scene.add(z, x, functools.partial(draw, scene, x, z))


def _add_panel(scene: Scene, a: Point, b: Point, tall: float, label: int,
               light: float, maker: Callable[[], Texture]) -> None:
  # of two panels that end at one depth, the outer one is drawn first
  far = max(a[1], b[1]) + 1e-3 * abs(a[0])
  scene.add(far, a[0], lambda: draw_panel(
      scene, a, b, tall, label, light, maker))


def add_street_end(scene: Scene) -> None:
  """Queues the end of the street: a skyline of houses or a row of trees."""
  pick = scene.pick
  x = -60.0
  woods = pick.random()
  while x < 60:
    wide = pick.uniform(10, 25)
    if pick.random() < woods:
      scene.add(_FAR + 15, x, lambda x=x, wide=wide: plants.draw_crown(
          scene, x, _FAR + 10, 2, wide, pick.uniform(4, 11)))
    else:
      tall = pick.uniform(4, 24)
      maker = functools.partial(built.facade, scene, wide, tall)
      scene.add(_FAR + 12, x, functools.partial(
          draw_panel, scene, (x, _FAR + 5), (x + wide, _FAR + 5), tall,
          BUILDING, 0.9, maker))
    x += wide * 0.9
