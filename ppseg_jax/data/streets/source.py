"""Draws a whole scene, and makes a data source of scenes."""

import numpy as np

from ppseg_jax.data import labels
from ppseg_jax.data.streets import palette
from ppseg_jax.data.streets.classes import VOID
from ppseg_jax.data.streets.ground import draw_ground
from ppseg_jax.data.streets.plan import choose_street
from ppseg_jax.data.streets.roadside import add_roadside, add_street_end
from ppseg_jax.data.streets.scene import Scene, choose_scene
from ppseg_jax.data.streets.sky import draw_sky
from ppseg_jax.data.streets.traffic import add_people, add_traffic


class Streets:
  """`size` scenes: (image uint8 [H, W, 3], train ids uint8 [H, W]) each."""

  label_space = labels.CITYSCAPES

  def __init__(self, seed: int, size: int, height: int, width: int):
    self.seed, self.size, self.height, self.width = seed, size, height, width

  def __len__(self) -> int:
    return self.size

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    if not 0 <= index < self.size:
      raise IndexError(f"scene {index} is outside 0..{self.size - 1}")
    return render(self.seed, index, self.height, self.width)


def render(seed: int, index: int, height: int, width: int,
           ) -> tuple[np.ndarray, np.ndarray]:
  """Draws scene `index` of the endless sequence `seed`.

  Returns the image, uint8 [height, width, 3], and its Cityscapes train ids,
  uint8 [height, width]. Height and width are at least 32.
  """
  scene = choose_scene(seed, index, height, width)
  street = choose_street(scene.pick)
  add_traffic(scene, street)
  add_people(scene, street)
  add_roadside(scene, street)
  add_street_end(scene)
  draw_sky(scene)
  draw_ground(scene, street)
  _draw_things(scene)
  _draw_bonnet(scene)
  # without A, by which Pillow would weigh the colours
  image = scene.canvas.convert("RGB").reduce(2)
  label = np.asarray(scene.canvas.getchannel("A"))[1::2, 1::2].copy()
  return _exposed(scene, np.asarray(image)), label


def _draw_things(scene: Scene) -> None:
  """Draws the queue far to near.

  What stands beyond a vehicle, seen from the road, and beside it in depth is
  drawn before it, although its own far end may be nearer.
  """
  order, blocks = [], []
  for n, (far, x, near, paint) in enumerate(
      sorted(scene.things, key=lambda thing: abs(thing.x))):
    keys = [key + 1e-4 for bx, start, end, key in blocks
            if start < far < end and x * bx > 0 and abs(x) > abs(bx) + 0.5]
    key = max([far, *keys])
    order.append((-key, -far, n, paint))
    if near is not None and abs(x) > 0.8:  # else its flanks are out of sight
      blocks.append((x, near, far, key))
  for *_, paint in sorted(order, key=lambda entry: entry[:3]):
    paint()


def _draw_bonnet(scene: Scene) -> None:
  """The own car's bonnet, in some images: void."""
  pick, w, h = scene.pick, scene.width, scene.height
  if pick.random() > 0.3:
    return
  rise, mid = h * pick.uniform(0.04, 0.14), w * pick.uniform(0.4, 0.6)
  paint = palette.paint(pick)
  for grow, light in ((0, 0.6), (0.2, 1.0)):
    scene.draw.ellipse((mid - w * 0.75, h - rise * (1 - grow), mid + w * 0.75,
                        h + rise * 6), fill=scene.tint(paint, 1, VOID, light))


def _exposed(scene: Scene, rgb: np.ndarray) -> np.ndarray:
  """The sensor: gamma, contrast and noise; uint8 [H, W, 3] to the same."""
  pick = scene.pick
  gamma, contrast = pick.uniform(0.75, 1.3), pick.uniform(0.7, 1.15)
  level = np.arange(256, dtype=np.float32) / 255
  curve = 255 * ((level**gamma - 0.5) * contrast + 0.5) + pick.uniform(-12, 12)
  out = curve.astype(np.float32)[rgb]
  out += scene.noise.standard_normal(out.shape, np.float32) * pick.uniform(1, 5)
  return np.clip(out, 0, 255).astype(np.uint8)
