"""Who drives, rides, walks and stands where on the street."""

from collections.abc import Callable

from ppseg_jax.data.streets.classes import (
    BICYCLE,
    BUS,
    CAR,
    MOTORCYCLE,
    TRAIN,
    TRUCK,
)
from ppseg_jax.data.streets.extrude import AWAY, LEFTWARDS, RIGHTWARDS, TOWARDS
from ppseg_jax.data.streets.people import draw_cycle, draw_person
from ppseg_jax.data.streets.plan import Side, Street
from ppseg_jax.data.streets.plants import draw_tree
from ppseg_jax.data.streets.posts import draw_clutter, draw_post
from ppseg_jax.data.streets.scene import Scene, Shadow
from ppseg_jax.data.streets.vehicles import add_vehicle

_MOTORS = (CAR, TRUCK, BUS)


def add_traffic(scene: Scene, street: Street) -> None:
  """Queues vehicles in the lanes, in the bays and across the junction."""
  for i in range(-street.left, street.right + 1):
    _add_lane(scene, street, i)
  for sign, side in street.sides.items():
    _add_parked(scene, street, sign, side)
  pick = scene.pick
  if street.cross and pick.random() < 0.6:
    z = pick.uniform(street.cross + 0.5, street.cross_end - 3)
    if not any(thing.near < z + 4 and thing.far > z - 1
               for thing in scene.things):
      add_vehicle(scene, pick.choices(_MOTORS, (0.7, 0.15, 0.15))[0],
                  pick.uniform(-10, 10), z,
                  pick.choice((LEFTWARDS, RIGHTWARDS)))


def _add_lane(scene: Scene, street: Street, i: int) -> None:
  pick = scene.pick
  odds = ((0.6, 0.24, 0.16) if street.kind == "highway"
          else (0.68, 0.13, 0.19))
  heading = TOWARDS if i < 0 else AWAY
  x = street.lane * i + pick.uniform(-0.2, 0.2)
  z = pick.uniform(7, 40) if i == 0 else pick.uniform(5, 30)
  if street.rails and street.rail_lane == i and pick.random() < 0.85:
    z = add_vehicle(scene, TRAIN, street.rail_at + 0.75, z, heading)
    z += pick.uniform(4, 20)
  while z < 55:
    z = add_vehicle(scene, pick.choices(_MOTORS, odds)[0], x, z, heading)
    z += pick.uniform(3, 40)


def _add_parked(scene: Scene, street: Street, sign: int, side: Side) -> None:
  pick = scene.pick
  z, cross = pick.uniform(3, 20), street.cross
  while side.park and z < 50:
    blocked = cross and cross - 6 < z < street.cross_end
    if not blocked and pick.random() < 0.75:
      label = pick.choices(_MOTORS, (0.92, 0.07, 0.01))[0]
      add_vehicle(scene, label, sign * (side.kerb - 1.05), z,
                  pick.choice((AWAY, AWAY if sign > 0 else TOWARDS)))
    z += pick.uniform(5, 9) if not blocked else 10


def add_people(scene: Scene, street: Street) -> None:
  """Queues walkers, cycles, posts, clutter and street trees."""
  pick = scene.pick
  for sign, side in street.sides.items():
    walk = (side.kerb + 0.3, max(side.front - 0.3, side.kerb + 0.5))
    _add_walkers(scene, street, sign, walk)
    _add_cycles(scene, street, sign, side)
    _add_posts_and_trees(scene, street, sign, side)
    for _ in range(pick.randint(0, 2)):
      _stand(scene, draw_clutter, sign * pick.uniform(*walk),
             pick.uniform(6, 25), 0.4)
  for _ in range(pick.choice((0, 0, 1, 3))):  # someone crosses the road
    _stand(scene, draw_person, pick.uniform(-4, 4), pick.uniform(7, 25), 0.3)


def _stand(scene: Scene, draw: Callable, x: float, z: float, half: float,
           *args) -> None:
  """Queues draw(scene, x, z, *args) and its shadow, 2 * half wide."""
  scene.shadows.append(Shadow(x, z - 0.15, z + 0.25, half))
  scene.add(z, x, lambda: draw(scene, x, z, *args))


def _add_walkers(scene: Scene, street: Street, sign: int,
                 walk: tuple[float, float]) -> None:
  pick = scene.pick
  most = {"urban": 7, "suburb": 3, "highway": 1}[street.kind]
  for _ in range(pick.randint(0, most)):
    x, z = sign * pick.uniform(*walk), 5 + 35 * pick.random() ** 1.5
    for i in range(pick.choice((1, 1, 2, 3))):
      _stand(scene, draw_person, x + sign * 0.6 * i, z + 0.4 * i, 0.3)


def _add_cycles(scene: Scene, street: Street, sign: int, side: Side) -> None:
  """Cycles left on the pavement, and ridden along the kerb."""
  pick, chance = scene.pick, 0.2
  for label in (BICYCLE, MOTORCYCLE):
    if pick.random() < chance * (0.6 if street.kind == "highway" else 1):
      x, z = sign * (side.kerb + 0.3 + 0.4), pick.uniform(5, 14)
      for i in range(pick.randint(1, 3)):
        _stand(scene, draw_cycle, x, z + i * 1.2, 0.5, label, False)
    if pick.random() < chance * 1.3:
      inset = pick.uniform(0.6, 1.5) + (2.0 if side.park else 0.0)
      _stand(scene, draw_cycle, sign * (side.kerb - inset),
             pick.uniform(4.5, 15), 0.5, label, True)


def _add_posts_and_trees(scene: Scene, street: Street, sign: int,
                         side: Side) -> None:
  pick = scene.pick
  z = pick.uniform(5, 14)
  while z < 60:
    _stand(scene, draw_post, sign * (side.kerb + 0.5), z, 0.15)
    z += pick.uniform(8, 26)
  if street.kind != "highway" and pick.random() < 0.5:
    z, gap = pick.uniform(6, 16), pick.uniform(6, 14)
    while z < 65:
      _stand(scene, draw_tree, sign * (side.kerb + 0.9), z, 1.0)
      z += gap
