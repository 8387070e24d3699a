"""One image in the making: its camera, weather, canvas and queue of things."""

import dataclasses
import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[float, float, float]
SUMMER, AUTUMN, WINTER = range(3)


class Thing(NamedTuple):
  """Something that `paint` draws at x."""

  far: float  # depth at which it ends
  x: float
  near: float | None  # depth at which it starts, if it is a vehicle
  paint: Callable[[], None]


class Shadow(NamedTuple):
  """The ground that a thing darkens: x - half to x + half, near to far."""

  x: float
  near: float
  far: float
  half: float


@dataclasses.dataclass
class Scene:
  """Camera, light and canvas of one image, and what stands in it."""

  pick: random.Random  # a scalar costs a tenth of what a Generator takes
  noise: np.random.Generator  # of the sensor
  width: int  # of the canvas: twice the image's
  height: int
  focal: float
  eye: float  # metres above ground
  horizon: float  # canvas row
  vanish: float  # canvas column
  bend: float  # lateral metres per squared metre ahead
  night: bool
  sunny: bool
  gain: RGB  # colour of the light
  sun: int  # side the sun lights, -1 or 1
  haze: RGB
  haze_rate: float  # per metre
  season: int  # SUMMER, AUTUMN or WINTER
  canvas: Image.Image  # RGBA, whose A is the train id
  draw: ImageDraw.ImageDraw  # on the canvas
  things: list[Thing] = dataclasses.field(default_factory=list)
  shadows: list[Shadow] = dataclasses.field(default_factory=list)

  def shift(self, z):
    """How far the bend has moved the street sideways at depth z."""
    return self.bend * z * z

  def project(self, x: float, y: float, z: float) -> tuple[float, float]:
    """Canvas column and row of a point."""
    k = self.focal / z
    return (self.vanish + (x + self.shift(z)) * k,
            self.horizon + (self.eye - y) * k)

  def tint(self, rgb: Sequence[float], z: float, label: int,
           light: float = 1.0, glow: bool = False,
           ) -> tuple[int, int, int, int]:
    """The lit and hazed colour at depth z, and its label.

    What glows has its own light instead of the scene's.
    """
    clear = math.exp(-self.haze_rate * z)
    (gr, gg, gb), (hr, hg, hb) = self.gain, self.haze
    if glow:
      gr = gg = gb = 1.0
    part, rest = clear * light, 1 - clear
    return (min(255, int(part * rgb[0] * gr + rest * hr)),
            min(255, int(part * rgb[1] * gg + rest * hg)),
            min(255, int(part * rgb[2] * gb + rest * hb)), label)

  def write(self, pixels: np.ndarray, corner: tuple[int, int],
            where: np.ndarray | None = None) -> None:
    """Copies pixels, uint8 [R, C, 4], to the canvas at (column, row) `corner`.

    where: bool [R, C], which of them; all if None.
    """
    mask = None if where is None else Image.fromarray(where)
    self.canvas.paste(Image.fromarray(pixels), corner, mask)

  def add(self, far: float, x: float, paint: Callable[[], None],
          near: float | None = None) -> None:
    """Queues a thing."""
    self.things.append(Thing(far, x, near, paint))


def choose_scene(seed: int, index: int, height: int, width: int) -> Scene:
  """Chooses camera, weather and season of an image [height, width]."""
  noise = np.random.Generator(np.random.Philox(key=[seed, index]))
  pick = random.Random(int(noise.integers(2**62)))
  h, w = 2 * height, 2 * width
  canvas = Image.new("RGBA", (w, h))
  weather = _weather(pick)
  return Scene(
      pick=pick, noise=noise, width=w, height=h,
      focal=max(w, 1.5 * h) * pick.uniform(0.72, 1.05),
      eye=pick.uniform(1.4, 2.7), horizon=h * pick.uniform(0.36, 0.52),
      vanish=w * pick.uniform(0.36, 0.64),
      bend=pick.choice((0, 0, 1, 1)) * pick.uniform(-2.2e-3, 2.2e-3),
      sun=pick.choice((-1, 1)),
      haze_rate=pick.choice((0.001, 0.003, 0.006, 0.014)),
      season=pick.choices((SUMMER, AUTUMN, WINTER), (0.5, 0.25, 0.25))[0],
      canvas=canvas, draw=ImageDraw.Draw(canvas), **weather)


def _weather(pick: random.Random) -> dict:
  """Chooses night, sunny, gain and haze of a Scene."""
  kind = pick.choices(("sun", "cloud", "dusk", "night"),
                      (0.42, 0.33, 0.13, 0.12))[0]
  warmth = {"sun": 0.12, "cloud": 0.05, "dusk": 0.25, "night": 0.2}[kind]
  warm = pick.uniform(-warmth, warmth) + (0.12 if kind == "dusk" else 0)
  power = {"sun": pick.uniform(0.85, 1.35), "cloud": pick.uniform(0.6, 1.1),
           "dusk": pick.uniform(0.4, 0.8),
           "night": pick.uniform(0.4, 0.65)}[kind]
  gain = np.array([1 + warm, 1.0, 1 - warm], np.float32) * power
  pale = {"sun": (170, 240), "cloud": (130, 235), "dusk": (110, 190),
          "night": (25, 80)}[kind]
  haze = np.array(pick.choice(((1, 1, 1), (0.9, 0.97, 1.05), (1.1, 1, 0.86))),
                  np.float32) * pick.uniform(*pale)
  if kind == "dusk":
    haze *= np.array((1.25, 0.95, 0.75), np.float32)
  return {"night": kind == "night", "sunny": kind == "sun",
          "gain": tuple(gain.tolist()),
          "haze": tuple(np.minimum(haze, 255).tolist())}
