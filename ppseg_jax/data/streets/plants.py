"""Hedges, trees and bushes."""

import numpy as np

from ppseg_jax.data.streets import noise, palette
from ppseg_jax.data.streets.canvas import Look, Stamp, Texture, draw_look
from ppseg_jax.data.streets.classes import VEGETATION
from ppseg_jax.data.streets.scene import WINTER, Scene


def hedge(scene: Scene, height: float) -> Texture:
  """Leaves up to an uneven top."""
  base, start = palette.plant(scene), scene.pick.randrange(256)

  def texture(u: np.ndarray, v: np.ndarray) -> Look:
    leaf = noise.surface(noise.CLUMPED, u + start, v, 22)
    inside = v < height * (0.8 + 0.25 * leaf)
    tone = (0.35 + 0.9 * leaf) * (0.7 + 0.4 / height * v)
    return Look((base,), 0, tone, inside)

  return texture


def draw_crown(scene: Scene, x: float, z: float, base: float, half: float,
               tall: float) -> None:
  """A ball of leaves around height base, or bare twigs in some winters."""
  cx, cy = scene.project(x, base, z)
  _, ground = scene.project(x, 0, z)
  rx, ry = half * scene.focal / z, tall * scene.focal / z
  c0, c1 = max(0, int(cx - rx)), min(scene.width, int(cx + rx) + 1)
  r0 = max(0, int(cy - ry))
  r1 = min(scene.height, int(min(cy + ry, ground)) + 1)
  pick = scene.pick
  if c1 - c0 < 2 or r1 - r0 < 2:
    return
  colour = palette.plant(scene)
  bare = scene.season == WINTER and pick.random() < 0.7
  u = (np.arange(c0, c1, dtype=np.float32)[None] + 0.5 - cx) / rx
  v = (np.arange(r0, r1, dtype=np.float32)[:, None] + 0.5 - cy) / ry
  metres = (u + pick.uniform(2, 9)) * half, (v + pick.uniform(2, 9)) * tall
  leaf = (0.6 * noise.surface(noise.CLOUDY, *metres, 28)
          + 0.4 * noise.surface(noise.CLUMPED, *metres, 30))
  inside = u * u + v * v + 1.1 * (leaf - 0.5) < 0.72
  drawn = leaf > 0.62 if bare else None
  light = (0.75 - 0.25 * v) * (1 + 0.2 * u * scene.sun)
  tone = (0.25 + 1.25 * leaf) * light
  draw_look(scene, (c0, r0, c1, r1), Look((colour,), 0, tone, inside, drawn),
            np.array([[z]], np.float32), VEGETATION)


def draw_tree(scene: Scene, x: float, z: float) -> None:
  """A trunk with four branches and one crown."""
  pick = scene.pick
  trunk, half = pick.uniform(1.6, 3.2), pick.uniform(1.3, 3.2)
  tall = half * pick.uniform(0.8, 1.6)
  pen = Stamp(scene, x, z, VEGETATION)
  bark, wide = palette.mineral(pick, 35, 100), pick.uniform(0.13, 0.28)
  pen.poly(bark, (-wide, 0), (wide, 0), (wide * 0.6, trunk + tall),
           (-wide * 0.6, trunk + tall))
  for _ in range(4):
    tip = half * pick.uniform(-0.8, 0.8), trunk + tall * pick.uniform(0.6, 1.6)
    pen.line(bark, wide * 0.6, (0, trunk * pick.uniform(0.8, 1.2)), tip)
  draw_crown(scene, x, z, trunk + tall, half * 1.15, tall * 1.15)


def draw_bush(scene: Scene, x: float, z: float) -> None:
  """A crown on the ground."""
  half = scene.pick.uniform(0.6, 1.6)
  draw_crown(scene, x, z, half * 0.6, half * 1.3, half)
