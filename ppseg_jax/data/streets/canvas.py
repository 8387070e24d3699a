"""The ways to draw on a scene's canvas.

Textured shapes are numpy arrays that are pasted; flat ones, which face the
camera, are drawn by Pillow.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ppseg_jax.data.streets.scene import RGB, Scene

# Brightnesses of a textured colour: few, so that all can be lit and hazed once.
_TONES = np.linspace(0, 2, 48, dtype=np.float32)

Box = tuple[int, int, int, int]  # left, top, right, bottom
Point = tuple[float, float]


class Look(NamedTuple):
  """A textured shape of R rows and C columns."""

  colours: Sequence[RGB]
  which: np.ndarray | int  # uint8 [R, C], or one for all: place in colours
  tone: np.ndarray  # float32 [R, C], brightness
  inside: np.ndarray  # bool [R, C], where the shape is
  drawn: np.ndarray | None = None  # bool [R, C], where it hides what is behind


# Of metres along a surface, [1, C], and above ground, [R, C].
Texture = Callable[[np.ndarray, np.ndarray], Look]


def shade(scene: Scene, colours: Sequence[RGB], which: np.ndarray | int,
          tone: np.ndarray, z: np.ndarray, depths: np.ndarray,
          label: int | np.ndarray, light: float = 1.0) -> np.ndarray:
  """Lit and hazed pixels with their labels, uint8 [R, C, 4].

  which and tone are those of a Look; z, float32, broadcasts with them and is
  rounded up to one of `depths`, float32 [Z], ascending, for the haze; label:
  one, or one for each of colours.
  """
  place = np.searchsorted(depths[:-1], z).astype(np.uint16) * len(colours)
  ramp = _ramp(scene, colours, depths, label, light)
  shown = ramp.take((place + which) * len(_TONES) + _levels(tone))
  return shown[..., None].view(np.uint8)


def _ramp(scene: Scene, colours: Sequence[RGB], z: np.ndarray,
          label: int | np.ndarray, light: float) -> np.ndarray:
  """Lit and hazed pixels, uint32 [Z * N * T], four bytes RGBA each.

  colours: N of them, shown at the depths z, float32 [Z], each in T tones from
  black to twice its brightness; label: one, or N.
  """
  n, count = len(colours), len(_TONES)
  gain = np.array(scene.gain, np.float32) * np.float32(light)
  lit = (np.array(colours, np.float32) * gain).T[..., None] * _TONES
  clear = np.exp(-scene.haze_rate * z)
  rest = (1 - clear)[:, None] * np.array(scene.haze, np.float32)
  rgb = lit.reshape(3, n * count) * clear[:, None, None] + rest[..., None]
  ramp = np.empty((len(z), n * count, 4), np.uint8)
  ramp[..., :3] = np.minimum(rgb, 255).transpose(0, 2, 1)
  ramp[..., 3] = (np.repeat(np.array(label, np.uint8), count)
                  if np.ndim(label) else label)
  return ramp.view(np.uint32).ravel()


def _levels(tone: np.ndarray) -> np.ndarray:
  """Brightness, float32, to its place in _TONES, uint16."""
  top = len(_TONES) - 1
  return np.minimum(np.maximum(tone, 0) * (top / 2), top).astype(np.uint16)


def draw_look(scene: Scene, box: Box, look: Look, z: np.ndarray, label: int,
              light: float = 1.0) -> None:
  """Draws a textured shape into `box` at depth z, float32 [1, C] or [1, 1].

  Where it is but does not hide what is behind, only the label is written.
  """
  low, high = float(z.min()), float(z.max())
  steps = 1 + min(6, int(scene.haze_rate * (high - low) * 16))
  depths = (np.linspace(low, high, steps, dtype=np.float32) if steps > 1
            else np.array([low], np.float32))  # linspace is slow
  shown = shade(scene, look.colours, look.which, look.tone, z, depths, label,
                light)
  if look.drawn is not None:
    behind = np.array(scene.canvas.crop(box))
    behind[..., 3] = label
    shown = np.where(look.drawn[..., None], shown, behind)
  scene.write(shown, box[:2], look.inside)


def draw_panel(scene: Scene, a: Point, b: Point, high: float, label: int,
               light: float, maker: Callable[[], Texture]) -> None:
  """Draws a vertical panel between the ground points a and b, each (x, z).

  maker is called only if the panel is in sight.
  """
  left, _ = scene.project(a[0], 0, a[1])
  right, _ = scene.project(b[0], 0, b[1])
  flip = left > right
  if flip:
    a, b, left, right = b, a, right, left
  c0 = max(0, math.ceil(left - 0.5))
  c1 = min(scene.width, math.ceil(right - 0.5))
  if c1 <= c0:
    return
  t = (np.arange(c0, c1, dtype=np.float32)[None] + 0.5 - left) / (right - left)
  z = 1 / ((1 - t) / a[1] + t / b[1])
  length = math.hypot(b[0] - a[0], b[1] - a[1])
  u = length * t * z / b[1]
  u = length - u if flip else u
  r0, r1 = _rows(scene, high, float(z.min()), float(z.max()))
  if r1 <= r0:
    return
  rows = np.arange(r0, r1, dtype=np.float32)[:, None] + 0.5
  v = scene.eye - (rows - scene.horizon) * (z / scene.focal)
  look = maker()(u, v)
  look = look._replace(inside=look.inside & (v >= 0))
  draw_look(scene, (c0, r0, c1, r1), look, z, label, light)


def _rows(scene: Scene, high: float, near: float, far: float,
          ) -> tuple[int, int]:
  """Canvas rows from the top of a panel to its foot."""
  tops = [scene.horizon + (scene.eye - high) * scene.focal / z
          for z in (near, far)]
  foot = scene.horizon + scene.eye * scene.focal / near
  return max(0, int(min(tops))), min(scene.height, int(foot) + 1)


@dataclasses.dataclass
class Stamp:
  """Pens for a flat thing that faces the camera at (x, z).

  Points are metres across from x and above ground.
  """

  scene: Scene
  x: float
  z: float
  label: int

  def __post_init__(self):
    self._column, self._row = self.scene.project(self.x, 0, self.z)
    self._scale = self.scene.focal / self.z

  def labelled(self, label: int) -> "Stamp":
    """The same pens for a part that has another label."""
    return dataclasses.replace(self, label=label)

  def poly(self, rgb: Sequence[float], *points: Point,
           glow: bool = False) -> None:
    """A filled polygon."""
    self.scene.draw.polygon(self._spots(points), fill=self._ink(rgb, glow))

  def line(self, rgb: Sequence[float], wide: float, *points: Point) -> None:
    """A line through the points, at least one pixel wide."""
    self.scene.draw.line(self._spots(points), self._ink(rgb, False),
                         max(1, round(wide * self._scale)))

  def disc(self, rgb: Sequence[float], across: float, up: float, rx: float,
           ry: float | None = None, glow: bool = False) -> None:
    """A filled ellipse; ry is rx where it is None."""
    ry = rx if ry is None else ry
    self.scene.draw.ellipse(
        self._spots(((across - rx, up + ry), (across + rx, up - ry))),
        fill=self._ink(rgb, glow))

  def _spots(self, points: Sequence[Point]) -> list[Point]:
    k = self._scale
    return [(self._column + a * k, self._row - b * k) for a, b in points]

  def _ink(self, rgb: Sequence[float], glow: bool) -> tuple:
    return self.scene.tint(rgb, self.z, self.label, glow=glow)


def rect(a0: float, a1: float, h0: float, h1: float) -> tuple[Point, ...]:
  """Corners of a rectangle from a0 to a1 across and h0 to h1 up."""
  return (a0, h0), (a1, h0), (a1, h1), (a0, h1)
