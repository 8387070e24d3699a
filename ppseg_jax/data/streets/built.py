"""Textures of what is built beside the street: houses, walls and fences."""

import random

import numpy as np

from ppseg_jax.data.streets import noise, palette
from ppseg_jax.data.streets.canvas import Look, Texture
from ppseg_jax.data.streets.scene import RGB, Scene

# What a point of a facade shows depends on the kind of its row and of its
# column, so the kinds are worked out once along each axis and met in a table.
_ROW_KINDS = 11  # mortar courses repeat them: kind + _ROW_KINDS
(_PLAIN_ROW, _FRAME_ROW, _PANE_ROW, _LEDGE_ROW, _SHOP_ROW, _SHOP_PANE_ROW,
 _ROOF_ROW) = 0, 1, 2, 6, 7, 8, 9
_PANE_ROWS = slice(_PANE_ROW, _PANE_ROW + 4)  # storeys differ in their panes
_FRAME_COLUMN = 1
_PANE_COLUMN, _PANE_COLUMNS = 2, 3
_COLUMN_KINDS = 5
_SHOP_WINDOW, _SHOP_DOOR, _SHOP_KINDS = 1, 2, 3
_ROWS_PER_METRE = 12.5

# Places in the colours of a facade.
(_BASE, _DARK_PANE, _LIT_PANE, _SKY_PANE, _FRAME, _LEDGE, _SHOP, _ROOF,
 _MORTAR) = range(9)


def facade(scene: Scene, length: float, height: float) -> Texture:
  """A building: storeys, windows, shops or doors, cornice, roof."""
  pick = scene.pick
  colours = _facade_colours(scene)
  storey, pitch = pick.uniform(2.8, 3.8), pick.uniform(1.6, 3.6)
  gap = pick.choice((0.1, 0.25, 0.3, 0.36))  # of a pitch, beside a window
  gable = pick.uniform(2, 4) if pick.random() < 0.3 else 0.0
  roof = height - pick.uniform(1.5, 3) if pick.random() < 0.4 else height
  rows = _facade_rows(pick, height, storey, roof)
  table = _facade_table(pick).ravel()
  rows *= _SHOP_KINDS * _COLUMN_KINDS  # now places in the table
  rough = pick.uniform(0.08, 0.3)

  def texture(u: np.ndarray, v: np.ndarray) -> Look:
    part, shop = noise.part(u / pitch), noise.part(u / (pitch * 1.7))
    column = np.where(
        (part > gap) & (part < 1 - gap),
        _PANE_COLUMN + (u / pitch).astype(np.int32) % _PANE_COLUMNS,
        (part > gap - 0.06) & (part < 1.06 - gap))  # False is 0, a plain one
    column += _COLUMN_KINDS * ((shop > 0.12) & (shop < 0.88))
    column += _COLUMN_KINDS * ((shop > 0.4) & (shop < 0.6))
    row = rows.take((v * _ROWS_PER_METRE).astype(np.int32), mode="clip")
    which = table.take(row + column.astype(np.uint16))
    tone = (noise.surface(noise.FINE, u, v, 9) * np.float32(rough)
            + np.float32(1 - rough / 2))
    inside = v < height - gable * np.abs(2 * u / length - 1)
    return Look(colours, which, tone, inside)

  return texture


def _facade_colours(scene: Scene) -> tuple[RGB, ...]:
  pick = scene.pick
  base = palette.mineral(pick, 70, 235)
  warm = pick.uniform(1.5, 3.0)
  lit = ((240 * warm, 200 * warm, 120 * warm) if scene.night
         else palette.mineral(pick, 40, 190))
  return (base, palette.GLASS, lit, palette.dimmed(scene.haze, 0.7),
          palette.dimmed(base, 1.25), palette.dimmed(base, 0.7),
          palette.paint(pick), palette.mineral(pick, 35, 140),
          tuple(c * pick.choice((1.0, 1.0, 0.8, 0.6)) for c in base))


def _facade_table(pick: random.Random) -> np.ndarray:
  """Colour by row kind, shop column and column, uint8 [22, 3, 5]."""
  panes = [pick.randint(_DARK_PANE, _SKY_PANE) for _ in range(12)]
  table = np.zeros((2 * _ROW_KINDS, _SHOP_KINDS, _COLUMN_KINDS), np.uint8)
  table[_FRAME_ROW:_PANE_ROWS.stop, :, _FRAME_COLUMN:] = _FRAME
  table[_PANE_ROWS, :, _PANE_COLUMN:] = np.reshape(panes, (4, 1, 3))
  table[_LEDGE_ROW] = _LEDGE
  table[_SHOP_ROW] = table[_SHOP_PANE_ROW] = _SHOP
  table[_SHOP_PANE_ROW, _SHOP_WINDOW] = _DARK_PANE
  table[_SHOP_PANE_ROW, _SHOP_DOOR] = _LEDGE
  table[_ROOF_ROW] = _ROOF
  table[_ROW_KINDS:] = np.where(table[:_ROW_KINDS] == _BASE, _MORTAR,
                                table[:_ROW_KINDS])
  return table


def _facade_rows(pick: random.Random, height: float, storey: float,
                 roof: float) -> np.ndarray:
  """The kind of each 8 cm of a facade's height, uint16."""
  up = np.arange(int(height * _ROWS_PER_METRE) + 1) / _ROWS_PER_METRE
  part, level = noise.part(up / storey), (up / storey).astype(int)
  sill, head = pick.uniform(0.2, 0.35), pick.uniform(0.75, 0.92)
  kind = np.zeros(len(up), np.uint16)
  kind[(part > sill - 0.06) & (part < head + 0.05)] = _FRAME_ROW
  pane = (part > sill) & (part < head)
  kind[pane] = _PANE_ROW + level[pane] % 4
  kind[(part < 0.05) & (up > 1)] = _LEDGE_ROW
  if pick.random() < 0.6:
    kind[up < storey] = _SHOP_ROW
    kind[(up > 0.3) & (up < 2.5)] = _SHOP_PANE_ROW
  kind[up > roof - 0.3] = _LEDGE_ROW
  kind[up > roof] = _ROOF_ROW
  kind[noise.part(up * 3.2) < 0.3] += _ROW_KINDS  # mortar shows in plain wall
  return kind


def wall(scene: Scene, height: float) -> Texture:
  """A free-standing wall: blocks or panels with joints, and a coping."""
  pick = scene.pick
  base = palette.mineral(pick, 70, 215)
  long, tall = pick.choice(((0.7, 0.35), (1.2, 0.5), (3.0, 9.0), (4.0, 1.0)))
  depth, rough = pick.uniform(0.5, 0.8), pick.uniform(0.15, 0.45)
  cap = pick.uniform(0.7, 1.3)
  spray, graffiti = palette.paint(pick), pick.random() < 0.25

  def texture(u: np.ndarray, v: np.ndarray) -> Look:
    course = np.floor(v / tall)
    joint = noise.part(u / long + 0.5 * course) * long < 0.1
    joint |= v - course * tall < 0.08
    tone = 1 - rough / 2 + rough * noise.surface(noise.CLUMPED, u, v, 7)
    tone[joint] *= depth
    tone[v > height - 0.2] = cap
    cloud = noise.surface(noise.CLOUDY, u * 0.6, v, 20)
    sprayed = (cloud > 0.72) & (v < height - 0.4) & graffiti
    return Look((base, spray), sprayed.astype(np.uint8), tone, v < height)

  return texture


def fence(scene: Scene, height: float) -> Texture:
  """Bars, pickets or mesh: what lies behind shows through, labelled fence."""
  pick = scene.pick
  base = palette.mineral(pick, 25, 235)
  bar, gap = pick.choice(((0.12, 0.35), (0.25, 0.4), (0.1, 0.25), (0.3, 0.36)))
  mesh = pick.random() < 0.25
  post = pick.uniform(2, 3)

  def texture(u: np.ndarray, v: np.ndarray) -> Look:
    if mesh:
      drawn = noise.part((u + v) * 2.5) < 0.27
      drawn |= noise.part((u - v) * 2.5) < 0.27
    else:
      drawn = u % gap < bar
    rails = (np.abs(v - 0.3) < 0.08) | (np.abs(v - height + 0.2) < 0.08)
    drawn = drawn | rails | (u % post < 0.2)
    tone = 1 + np.float32(0.25) * rails
    return Look((base,), 0, tone, v < height, drawn)

  return texture
