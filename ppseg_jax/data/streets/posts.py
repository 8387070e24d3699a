"""Lamp posts, traffic lights, traffic signs, and street clutter."""

import random

from ppseg_jax.data.streets import palette
from ppseg_jax.data.streets.canvas import Stamp, rect
from ppseg_jax.data.streets.classes import LIGHT, POLE, SIGN, VOID
from ppseg_jax.data.streets.palette import DARK
from ppseg_jax.data.streets.scene import Scene


def draw_post(scene: Scene, x: float, z: float) -> None:
  """A lamp post, a traffic light or a traffic sign, larger than life."""
  pick = scene.pick
  pen = Stamp(scene, x, z, POLE)
  metal, wide = palette.mineral(pick, 40, 190), pick.uniform(0.12, 0.2)
  inward = -1 if x > 0 else 1
  kind = pick.choices(("lamp", "light", "sign"), (0.3, 0.33, 0.37))[0]
  tall = pick.uniform(5, 8) if kind == "lamp" else pick.uniform(2.4, 3.4)
  arm = kind == "light" and pick.random() < 0.35
  tall = 5.2 if arm else tall
  pen.poly(metal, (-wide, 0), (wide, 0), (wide * 0.75, tall),
           (-wide * 0.75, tall))
  if kind == "lamp":
    pen.line(metal, 0.2, (0, tall), (inward * 1.6, tall + 0.3))
    pen.disc((250, 235, 190) if scene.night else metal, inward * 1.8,
             tall + 0.25, 0.45, 0.16, glow=scene.night)
  elif kind == "light":
    if arm:
      pen.line(metal, 0.2, (0, tall), (inward * 3, tall))
      _signal(pick, pen.labelled(LIGHT), inward * 3, tall - 0.4)
    _signal(pick, pen.labelled(LIGHT), 0, min(tall, 3.0))
  else:
    _sign(pick, pen.labelled(SIGN), tall)


def _signal(pick: random.Random, pen: Stamp, at: float, up: float) -> None:
  """A box with three lamps around height up, at most one of them lit."""
  box = pick.choice((DARK, DARK, (60, 62, 60), (170, 140, 40)))
  pen.poly(box, *rect(at - 0.32, at + 0.32, up - 0.9, up + 0.9))
  lamps = ((255, 50, 40), (255, 190, 50), (60, 240, 140))
  on = pick.choice((0, 0, 1, 2, 2, 3))
  for i, lamp in enumerate(lamps):
    pen.disc(lamp if i == on else (62, 56, 54), at, up + 0.55 - 0.55 * i, 0.23,
             glow=i == on)


def _sign(pick: random.Random, pen: Stamp, up: float) -> None:
  """The plate at the top of a post, sometimes seen from behind."""
  edge = pick.choice(((190, 35, 40), (190, 35, 40), (30, 70, 160),
                      (225, 225, 225), (220, 190, 40), (30, 110, 70)))
  field = pick.choice(((235, 235, 235), (235, 235, 235), edge))
  if pick.random() < 0.2:
    edge = field = palette.mineral(pick, 90, 170)
  shape = pick.choice(("disc", "disc", "triangle", "square", "board"))
  r = pick.uniform(0.42, 0.6)
  if shape == "disc":
    pen.disc(edge, 0, up, r)
    pen.disc(field, 0, up, r * 0.68)
    pen.disc(edge, 0, up, r * 0.25, r * 0.3)
  elif shape == "triangle":
    pen.poly(edge, (-r * 1.2, up - r), (r * 1.2, up - r), (0, up + r))
    pen.poly(field, (-r * 0.7, up - r * 0.7), (r * 0.7, up - r * 0.7),
             (0, up + r * 0.5))
  else:
    w = r * (2.2 if shape == "board" else 1.0)
    pen.poly(edge, *rect(-w, w, up - r, up + r))
    pen.poly(field, (-w * 0.8, up - r * 0.2), (w * 0.8, up - r * 0.2),
             (w * 0.5, up + r * 0.6), (-w * 0.5, up + r * 0.6))


def draw_clutter(scene: Scene, x: float, z: float) -> None:
  """Bins and boxes: Cityscapes does not count them."""
  pick = scene.pick
  pen = Stamp(scene, x, z, VOID)
  w, h = pick.uniform(0.25, 0.6), pick.uniform(0.6, 1.2)
  paint = palette.paint(pick)
  pen.poly(paint, *rect(-w, w, 0, h))
  pen.poly(palette.dimmed(paint, 0.6), *rect(-w, w, h * 0.8, h))
  pen.line(DARK, 0.06, (0, 0), (0, h * 0.8))
