"""The ground: road and its paint, pavements, verges and what shades them."""

import math

import numpy as np

from ppseg_jax.data.streets import noise, palette
from ppseg_jax.data.streets.canvas import shade
from ppseg_jax.data.streets.classes import ROAD, SIDEWALK, TERRAIN
from ppseg_jax.data.streets.plan import Street
from ppseg_jax.data.streets.scene import RGB, WINTER, Scene


def draw_ground(scene: Scene, street: Street) -> None:
  """Paints road, pavement and terrain below the horizon."""
  pick = scene.pick
  first = max(0, math.ceil(scene.horizon + scene.focal * scene.eye / 400))
  rows = np.arange(first, scene.height, dtype=np.float32)[:, None] + 0.5
  z = scene.focal * scene.eye / (rows - scene.horizon)
  cols = np.arange(scene.width, dtype=np.float32)[None] + 0.5
  x = (cols - scene.vanish) * (z / scene.focal) - scene.shift(z)
  zone = _zones(street, x, z)
  label = np.array(street.zones + [ROAD], np.uint8)
  road, paved = (np.isin(label, kind)[zone] for kind in (ROAD, SIDEWALK))
  colours, rough = _colours(scene, street)
  zone[_markings(scene, street, x, z) & road] = len(street.zones)
  rough = np.array(rough, np.float32)[zone]
  tone = 1 + (noise.surface(noise.FINE, x, z, 14.0) - 0.5) * rough
  tone += (noise.surface(noise.CLOUDY, x, z, 2.5) - 0.5) * pick.uniform(
      0.05, 0.3)
  _joints(scene, x, z, paved, tone)
  _rails_and_kerbs(scene, street, x, z, road, tone)
  _shadows(scene, street, x, z, tone)
  depths = np.geomspace(z[-1, 0], z[0, 0], 16, dtype=np.float32)
  scene.write(shade(scene, colours, zone, tone, z, depths, label), (0, first))


def _zones(street: Street, x: np.ndarray, z: np.ndarray) -> np.ndarray:
  """Place in street.zones, uint8 [R, W], given x [R, W] and z [R, 1]."""
  zone = np.zeros(x.shape, np.uint8)
  for edge in street.edges:
    zone += x > edge
  if street.cross:
    inside = (z > street.cross) & (z < street.cross_end)
    zone[inside[:, 0]] = street.zones.index(ROAD)
  return zone


def _colours(scene: Scene, street: Street) -> tuple[list[RGB], list[float]]:
  """Colour and roughness of each zone, and of road paint as the last."""
  pick = scene.pick
  grass = palette.plant(scene)
  if scene.season == WINTER and pick.random() < 0.3:
    grass = (215, 218, 224)
  colour = {ROAD: palette.mineral(pick, 60, 150),
            SIDEWALK: palette.mineral(pick, 70, 190), TERRAIN: grass}
  rough = {ROAD: 0.22, SIDEWALK: 0.14, TERRAIN: 0.75}
  paint = (pick.uniform(170, 240),) * 3
  return ([colour[kind] for kind in street.zones] + [paint],
          [rough[kind] for kind in street.zones] + [0.2])


def _markings(scene: Scene, street: Street, x: np.ndarray,
              z: np.ndarray) -> np.ndarray:
  """bool [R, W]: where road paint lies, given x [R, W] and z [R, 1]."""
  pick, lane = scene.pick, street.lane
  wide = 0.08 + 0.004 * z  # larger than life far away, or it would vanish
  mask = np.zeros(x.shape, bool)
  dashed = (z % 8.0) < pick.choice((3.0, 4.0, 8.0))
  for i in range(1 - street.left, street.right + 1):
    mask |= (np.abs(x - lane * (i - 0.5)) < wide) & dashed
  if street.kind == "highway" or pick.random() < 0.5:
    for at in (-lane * (street.left + 0.5), lane * (street.right + 0.5)):
      mask |= np.abs(x - at) < wide
  if pick.random() < 0.4:  # a zebra crossing
    at = (street.cross - 4) if street.cross else pick.uniform(5, 25)
    mask |= (z > at) & (z < at + 3) & (noise.part(x) < 0.5)
  if street.cross:
    mask &= (z < street.cross) | (z > street.cross_end)
  return mask


def _joints(scene: Scene, x: np.ndarray, z: np.ndarray, paved: np.ndarray,
            tone: np.ndarray) -> None:
  """Darkens tone, float32 [R, W], between paving stones, as far as seen."""
  pick = scene.pick
  tile = pick.choice((0.5, 0.8, 1.2))
  step = z * z / (scene.focal * scene.eye)  # metres of depth in one row
  joint = (noise.part(x / tile) * tile < 0.06 + 0.003 * z) & (z < 40)
  joint |= (z % tile < 0.07 + 0.4 * step) & (step < tile)
  tone[joint & paved] *= pick.uniform(0.55, 0.8)


def _rails_and_kerbs(scene: Scene, street: Street, x: np.ndarray,
                     z: np.ndarray, road: np.ndarray,
                     tone: np.ndarray) -> None:
  if street.rails:
    for at in street.rail_at, street.rail_at + 1.5:
      tone[(np.abs(x - at) < 0.07 + 0.003 * z) & road] *= 0.4
  for sign, side in street.sides.items():
    near = np.abs(x * sign - side.kerb - 0.1) < 0.1 + 0.003 * z
    tone[near & ~road] = scene.pick.uniform(0.6, 1.5)


def _shadows(scene: Scene, street: Street, x: np.ndarray, z: np.ndarray,
             tone: np.ndarray) -> None:
  """Darkens tone, float32 [R, W], under things and beside buildings."""
  pick, depth = scene.pick, z[:, 0]
  deep = 0.42 if scene.sunny else 0.6
  lean = 1.2 * -scene.sun if scene.sunny else 0.0
  for at, near, far, half in scene.shadows:
    top, bottom = np.searchsorted(-depth, (-far, -near))
    if bottom > top:
      block = x[top:bottom] - at - lean * half * 0.5
      tone[top:bottom][np.abs(block) < half * (1 + 0.25 * abs(lean))] *= deep
  if scene.sunny and pick.random() < 0.6:
    # the row of houses on the side away from the sun shades the road
    front = street.sides[scene.sun].front
    reach = np.array([pick.uniform(1, 12) for _ in range(16)], np.float32)
    edge = front - reach[(depth / 9).astype(int) % 16][:, None]
    tone[x * scene.sun > edge] *= pick.uniform(0.4, 0.65)
