"""What readers of pictures got right: characters, boxes, persons."""

from collections.abc import Sequence

import numpy as np

Box = tuple[float, float, float, float]  # left, top, right, bottom

OVERLAP = 0.4  # of two boxes' union that their intersection is, to be of one
SURE = 0.6  # distance of descriptors under which dlib calls two faces one


def letters(text: str) -> str:
  """The letters and digits alone, without case."""
  return "".join(x for x in text.casefold() if x.isalnum())


def edits(a: str, b: str) -> int:
  """The fewest insertions, deletions and changes from a to b (Levenshtein)."""
  row = list(range(len(b) + 1))
  for i, x in enumerate(a, 1):
    before, row[0] = row[0], i
    for j, y in enumerate(b, 1):
      before, row[j] = row[j], min(
          row[j] + 1, row[j - 1] + 1, before + (x != y)
      )
  return row[-1]


def of_texts(true: Sequence[str], read: Sequence[str]) -> dict[str, float]:
  """`characters` and `lines` read right, as shares, of lines and readings.

  Of each line's letters and digits, those are right that are not edited away on
  the way to what was read: 1 - edits / length, at least 0. A line of which none
  is read counts as 0; what was read besides costs what it takes to remove it.
  """
  pairs = [(letters(a), letters(b)) for a, b in zip(true, read, strict=True)]
  right = sum(max(0, len(a) - edits(a, b)) for a, b in pairs)
  return {
      "characters": right / sum(len(a) for a, _ in pairs),
      "lines": float(np.mean([a == b for a, b in pairs])),
  }


def overlap(a: Box, b: Box) -> float:
  """Intersection over union of two boxes."""
  across = min(a[2], b[2]) - max(a[0], b[0])
  down = min(a[3], b[3]) - max(a[1], b[1])
  both = max(across, 0) * max(down, 0)
  return both / sum([*map(_area, (a, b)), -both])


def _area(box: Box) -> float:
  return (box[2] - box[0]) * (box[3] - box[1])


def of_boxes(
    true: Sequence[Box], detected: Sequence[Sequence[Box]]
) -> dict[str, float]:
  """`found`: the share of boxes, one a picture, that a detected one is of."""
  return {"found": float(np.mean([
      any(overlap(box, each) >= OVERLAP for each in boxes)
      for box, boxes in zip(true, detected, strict=True)
  ]))}


def of_persons(
    true: Sequence[str], probes: np.ndarray,
    known: Sequence[str], gallery: np.ndarray,
) -> dict[str, float]:
  """Whose face each is, by the nearest in a gallery.

  Args:
    true: the person of each probe.
    probes: descriptors [N, D].
    known: the person of each face of the gallery, each once.
    gallery: descriptors [K, D].

  Returns:
    Shares of the probes: `first`, whose own person is the nearest of all;
    `sure`, of which that is so within the distance `SURE`; `mistaken`, within
    which another person is the nearest.
  """
  far = np.linalg.norm(probes[:, None] - gallery[None], axis=2)
  nearest = far.argmin(1)
  right = np.asarray(known)[nearest] == np.asarray(true)
  near = far.min(1) < SURE
  return {
      "first": float(right.mean()),
      "sure": float((right & near).mean()),
      "mistaken": float((~right & near).mean()),
  }
