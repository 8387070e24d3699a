"""People on foot, and bicycles and motorcycles with or without a rider."""

import random

from ppseg_jax.data.streets import palette
from ppseg_jax.data.streets.canvas import Stamp, rect
from ppseg_jax.data.streets.classes import MOTORCYCLE, PERSON, RIDER
from ppseg_jax.data.streets.palette import DARK
from ppseg_jax.data.streets.scene import RGB, Scene


def draw_person(scene: Scene, x: float, z: float) -> None:
  """Someone on foot, some with a bag."""
  pick = scene.pick
  pen = Stamp(scene, x, z, PERSON)
  legs, stride = palette.paint(pick), pick.uniform(-0.3, 0.3)
  lift = pick.uniform(0.62, 0.92)
  for sign in (-1, 1):
    foot = sign * (0.09 + 0.5 * stride)
    pen.poly(legs, (sign * 0.2, lift), (0, lift), (foot - 0.09, 0),
             (foot + 0.09, 0))
    pen.poly(DARK, *rect(foot - 0.1, foot + 0.13, 0.1, 0))
  _body(pick, pen, lift, stride)
  if pick.random() < 0.3:
    pen.poly(palette.paint(pick), (0.2, lift - 0.2), (0.5, lift - 0.2),
             (0.45, lift + 0.15), (0.25, lift + 0.15))


def _body(pick: random.Random, pen: Stamp, lift: float, stride: float) -> None:
  """Trunk, arms and head of a person whose hips are `lift` metres up."""
  coat, skin = palette.paint(pick), palette.mineral(pick, 60, 215)
  skin = (skin[0] * 1.1, skin[1] * 0.9, skin[2] * 0.8)
  wide = pick.uniform(0.22, 0.3)
  pen.poly(coat, (-wide * 0.85, lift - 0.1), (-wide, lift + 0.55),
           (-0.1, lift + 0.65), (0.1, lift + 0.65), (wide, lift + 0.55),
           (wide * 0.85, lift - 0.1))
  arm = palette.dimmed(coat, 0.75)
  for sign in (-1, 1):
    pen.line(arm, 0.13, (sign * wide, lift + 0.5),
             (sign * (wide + 0.06) + stride * sign * 0.4, lift))
  pen.disc(skin, 0, lift + 0.78, 0.13, 0.16)
  pen.disc(palette.mineral(pick, 20, 140), 0, lift + 0.86, 0.13, 0.09)


def draw_cycle(scene: Scene, x: float, z: float, label: int,
               ridden: bool) -> None:
  """A bicycle or motorcycle, from the side or along the road."""
  pick = scene.pick
  pen = Stamp(scene, x, z, label)
  paint, motor = palette.paint(pick), label == MOTORCYCLE
  turn = pick.uniform(0.6, 1.0) if pick.random() < 0.7 else 0.18
  reach, radius = 0.68 * turn, 0.38 if motor else 0.42
  flip = pick.choice((-1, 1))
  for at in (-reach, reach):
    pen.disc(DARK, at, radius, max(0.09, radius * turn), radius)
    pen.disc((110, 110, 112), at, radius, radius * turn * 0.72, radius * 0.72)
    pen.line(DARK, 0.04, (at, radius * 0.3), (at, radius * 1.7))
  steer, seat = (reach * 0.7 * flip, 1.05), (-reach * 0.5 * flip, 0.95)
  if motor:
    lamp = 0 if turn < 0.5 else reach * flip
    _motor(pen, paint, turn, reach, lamp, scene.night)
  else:
    hub, pedal = (-reach * flip, radius), (0, 0.35)
    pen.line(paint, 0.1, hub, seat, steer, pedal, seat)
    pen.line(paint, 0.1, hub, pedal)
    pen.line(paint, 0.09, steer, (reach * flip, radius))
  pen.line(DARK, 0.1, (steer[0] - 0.2, 1.12), (steer[0] + 0.2, 1.12))
  pen.line(DARK, 0.1, (seat[0] - 0.13, 0.98), (seat[0] + 0.13, 0.98))
  if ridden:
    rider, legs = pen.labelled(RIDER), palette.paint(pick)
    for bend in (0.3, -0.15):
      rider.line(legs, 0.17, (seat[0], 1.0), (bend * turn * flip, 0.7),
                 (0.05 * flip + bend * 0.3, 0.25))
    _body(pick, rider, 1.05, 0.1)


def _motor(pen: Stamp, paint: RGB, turn: float, reach: float, lamp: float,
           night: bool) -> None:
  """Tank, saddle, engine, fairing and lamp of a motorcycle."""
  pen.poly(paint, (-reach, 0.72), (-reach * 0.6, 0.35), (reach * 0.6, 0.35),
           (reach * 0.95, 0.75), (reach * 0.3, 1.0), (-reach * 0.2, 0.8))
  pen.poly(DARK, (-reach, 0.85), (reach * 0.1, 0.82), (reach * 0.1, 0.7),
           (-reach * 0.8, 0.68))
  pen.disc((120, 120, 125), 0, 0.42, 0.25 * turn, 0.16)
  pen.poly(paint, (-0.22, 0.75), (0.22, 0.75), (0.14, 1.15), (-0.14, 1.15))
  pen.disc((250, 240, 200), lamp, 0.9, 0.09, glow=night)
