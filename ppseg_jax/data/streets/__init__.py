"""`streets`: procedural street scenes from a car, labelled as Cityscapes.

A scene is a corridor along z, metres ahead of the camera, with x to the right
and y up. Everything is drawn far to near on one RGBA canvas at twice the asked
size, whose alpha channel holds the train id, so that colour and label of a
shape cannot disagree. Colours are drawn from palettes which the classes share,
then lit, hazed and exposed per image: a pixel's colour says little about its
class, texture and place say much.

The files, each of which imports only from those above it:

  classes    the names of the train ids
  scene      camera, weather, canvas and queue of one image
  noise      patterns of noise
  palette    colours that the classes share
  canvas     the ways to draw: textured panels and shapes, flat stamps
  plan       the street's cross-section
  sky, ground, built, plants, people, posts
             what fills the canvas, and what stands in it
  extrude    draws a vehicle from its side profile
  vehicles   the profiles of cars, lorries, buses and trams
  traffic    who drives, rides, walks and stands where
  roadside   what bounds the street
  source     draws a whole scene; the data source

Every random number comes from the scene's one generator, and many are drawn
while painting: another order of draws is another scene.
"""

from ppseg_jax.data.streets.source import Streets, render

__all__ = ["Streets", "render"]
