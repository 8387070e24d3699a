"""The plan of the street: lanes, kerbs, pavements, verges, a side street."""

import dataclasses
import random

from ppseg_jax.data.streets.classes import ROAD, SIDEWALK, TERRAIN


@dataclasses.dataclass
class Side:
  """One side of the street; distances in metres from its middle."""

  kerb: float
  park: bool  # whether there is a bay for parked cars before the kerb
  strips: list[tuple[int, float]]  # class and width, from the kerb outwards
  beyond: int  # class of the ground behind the strips

  @property
  def bounds(self) -> list[float]:
    """The kerb and the outer bound of each strip."""
    bounds = [self.kerb]
    for _, size in self.strips:
      bounds.append(bounds[-1] + size)
    return bounds

  @property
  def front(self) -> float:
    """Where houses and fences stand."""
    return self.bounds[-1]


@dataclasses.dataclass
class Street:
  """The cross-section, and what interrupts it."""

  kind: str  # urban, suburb or highway
  lane: float  # width
  left: int  # lanes on that side of the own one, which is lane 0 around x = 0
  right: int
  sides: dict[int, Side]  # by -1, left, and 1, right
  cross: float | None  # depth at which a side street begins, if one does
  cross_end: float
  rails: bool
  rail_lane: int

  @property
  def rail_at(self) -> float:
    """x of the left rail."""
    return self.rail_lane * self.lane - 0.75

  @property
  def zones(self) -> list[int]:
    """Classes of the ground from left to right."""
    left, right = ([kind for kind, _ in side.strips] + [side.beyond]
                   for side in (self.sides[-1], self.sides[1]))
    return left[::-1] + [ROAD] + right

  @property
  def edges(self) -> list[float]:
    """x between one zone and the next."""
    return [-x for x in self.sides[-1].bounds[::-1]] + self.sides[1].bounds


def choose_street(pick: random.Random) -> Street:
  """Chooses where everything on the ground lies."""
  kind = pick.choices(("urban", "suburb", "highway"), (0.5, 0.3, 0.2))[0]
  lane = pick.uniform(2.9, 3.6)
  left, right = pick.choice(((1, 0), (1, 0), (1, 1), (2, 0), (2, 1)))
  sides = {sign: _side(pick, kind, lane / 2 + lane * lanes + 0.3)
           for sign, lanes in ((-1, left), (1, right))}
  cross = pick.uniform(9, 45) if pick.random() < 0.35 else None
  return Street(
      kind=kind, lane=lane, left=left, right=right, sides=sides, cross=cross,
      cross_end=(cross or 0) + pick.uniform(7, 11),
      rails=pick.random() < 0.33 and kind != "highway",
      rail_lane=pick.randint(-left, right))


def _side(pick: random.Random, kind: str, kerb: float) -> Side:
  park = kind != "highway" and pick.random() < 0.45
  kerb += 2.1 if park else 0.0
  strips = []
  if kind == "highway" or pick.random() < 0.2:
    strips.append((TERRAIN, pick.uniform(1, 5)))
  if kind != "highway" or pick.random() < 0.3:
    strips.append((SIDEWALK, pick.uniform(2.2, 6)))
  if kind == "suburb" and pick.random() < 0.5:
    strips.insert(pick.randrange(2), (TERRAIN, pick.uniform(1, 3)))
  beyond = pick.choice((TERRAIN, TERRAIN, SIDEWALK))
  return Side(kerb, park, strips, beyond)
