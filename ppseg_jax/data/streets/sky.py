"""The sky."""

import math

import numpy as np

from ppseg_jax.data.streets import noise
from ppseg_jax.data.streets.classes import SKY
from ppseg_jax.data.streets.scene import Scene


def draw_sky(scene: Scene) -> None:
  """Fills the canvas with a graded, more or less cloudy sky."""
  pick, w = scene.pick, scene.width // 2  # it is smooth: half size will do
  rows = min(scene.height, max(2, math.ceil(scene.horizon))) // 2 + 1
  level = pick.uniform(20, 75) if scene.night else pick.uniform(110, 235)
  tint = pick.choice(((0.55, 0.8, 1.15), (0.75, 0.9, 1.05), (1, 1, 1),
                      (1, 1, 1), (0.9, 0.97, 1.02), (1.1, 0.98, 0.9)))
  top = np.array([level * t for t in tint], np.float32)
  t = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
  rgb = top * (1 - t) + np.array(scene.haze, np.float32) * t
  cover = pick.choice((0.0, 0.35, 0.5, 0.75))
  cloud = noise.clouds(pick, rows, w)[..., None]
  cloud = np.clip((cloud - 1 + cover) * pick.uniform(1.5, 4), 0, 1)
  white = np.float32(level * pick.uniform(0.75, 1.25))
  sky = np.empty((rows, w, 4), np.uint8)
  sky[..., :3] = np.clip(rgb + (white - rgb) * (cloud * (1 - 0.7 * t)), 0, 255)
  sky[..., 3] = SKY
  # below the horizon its last row goes on: little of it stays in sight
  row = np.minimum(np.arange(scene.height) // 2, rows - 1)
  scene.write(sky.repeat(2, 1)[row], (0, 0))
