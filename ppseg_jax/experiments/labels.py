"""Names beside the points of a figure, where they cover nothing else."""

import math
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

_GAP = 7  # points of the screen, from a marker's centre to its name
_RINGS = (1, 2.5, 4, 6, 8, 11, 14, 18)  # gaps that are tried


class Named(NamedTuple):
  """A point and its name; `must`: to be named whatever it costs."""

  x: float
  y: float
  name: str
  colour: str
  must: bool


def name_points(axis: Axes, points: list[Named]) -> None:
  """Writes the names, nearest first, those that must be there before others.

  A name goes where it covers no marker and no other name. One that finds no
  such place is left out, or, if it must be there, goes to the last that was
  tried. Far from its point a thin line leads to it. The figure's layout is
  fixed by this, so that whatever changes it comes before.
  """
  figure = axis.figure
  figure.draw_without_rendering()
  figure.set_layout_engine("none")
  frame = axis.get_window_extent()
  scale = figure.dpi / 72
  taken = []
  for point in points:
    x, y = axis.transData.transform((point.x, point.y))
    taken.append(Bbox.from_bounds(x - 4 * scale, y - 4 * scale,
                                  8 * scale, 8 * scale))
  for point in sorted(points, key=lambda point: not point.must):
    text = axis.annotate(
        point.name, (point.x, point.y), (0, 0), textcoords="offset points",
        color=point.colour, fontsize=7, va="center",
    )
    if not _put(text, frame, taken) and not point.must:
      text.remove()
      continue
    taken.append(text.get_window_extent())
    if math.hypot(*text.xyann) > 2 * _GAP:
      axis.annotate(
          "", (point.x, point.y), text.xyann, textcoords="offset points",
          arrowprops={"arrowstyle": "-", "color": point.colour, "lw": 0.4,
                      "shrinkA": 0, "shrinkB": 3},
      )


def _put(text, frame: Bbox, taken: list[Bbox]) -> bool:
  """Moves the text to the nearest free place; False where there is none."""
  for ring in _RINGS:
    for down in (0, 1, -1, 0.5, -0.5):
      for side, align in ((1, "left"), (-1, "right")):
        across = _GAP if down else ring * _GAP
        text.set(ha=align)
        text.xyann = (side * across, down * ring * _GAP)
        box = text.get_window_extent()
        inside = (box.x0 >= frame.x0 and box.x1 <= frame.x1
                  and box.y0 >= frame.y0 and box.y1 <= frame.y1)
        if inside and not any(box.overlaps(other) for other in taken):
          return True
  return False
