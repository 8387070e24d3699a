"""Testing on another data set: the classes that two label spaces share."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppseg_jax.data.labels import VOID, LabelSpace
from ppseg_jax.data.pipeline import Source, files_of
from ppseg_jax.data.spaces import MAPS
from ppseg_jax.errors import UserError


class Common(NamedTuple):
  """What two label spaces share.

  Attributes:
    space: the classes that both know, those of the coarser space.
    members: of each of them, the train ids of the model's classes.
    of_labels: uint8 [256], train id of the tested set -> that of `space`.
  """

  space: LabelSpace
  members: tuple[tuple[int, ...], ...]
  of_labels: np.ndarray


def common(trained: LabelSpace, tested: LabelSpace, text: str = "") -> Common:
  """The classes shared by a model's label space and a data set's.

  Args:
    trained: of the model.
    tested: of the data set.
    text: `class=class,...`, of the model and of the data set; empty for those
      of `spaces.MAPS`, or else those of equal names.

  Raises:
    UserError: for a text that names other classes or fits no two spaces, and
      where no class is shared.
  """
  pairs = _pairs(trained, tested, text)
  many, few = zip(*pairs, strict=True)
  if len({*many}) == len(many):
    coarse = tested
    shown = dict(pairs)
  elif len({*few}) == len(few):
    coarse, shown = trained, {one: one for one in many}
  else:
    raise UserError(
        f"eval.map='{text}' gives several classes to one on both sides; give"
        " each class of one of the two data sets once."
    )
  names = [name for name in coarse.names if name in shown.values()]
  members = [[] for _ in names]
  of_labels = np.full(256, VOID, np.uint8)
  for one, other in pairs:
    place = names.index(shown[one])
    if trained.names.index(one) not in members[place]:
      members[place].append(trained.names.index(one))
    of_labels[tested.names.index(other)] = place
  space = LabelSpace(
      f"{trained.name} and {tested.name}", tuple(names),
      tuple(coarse.colours[coarse.names.index(name)] for name in names),
      {i: i for i in range(len(names))} | {VOID: VOID},
  )
  return Common(space, tuple(map(tuple, members)), of_labels)


def _pairs(
    trained: LabelSpace, tested: LabelSpace, text: str
) -> list[tuple[str, str]]:
  """(class of the model, class of the data set) of each correspondence."""
  if text:
    pairs = [tuple(map(str.strip, part.partition("=")[::2]))
             for part in text.split(",")]
  elif (table := MAPS.get((trained.name, tested.name))) is not None:
    pairs = list(table.items())
  elif (table := MAPS.get((tested.name, trained.name))) is not None:
    pairs = [(one, other) for other, one in table.items()]
  else:
    pairs = [(name, name) for name in trained.names if name in tested.names]
  for sides, names in zip(zip(*pairs, strict=True),
                          (trained.names, tested.names), strict=False):
    unknown = [name for name in sides if name not in names]
    if unknown:
      raise UserError(
          f"eval.map: '{unknown[0]}' is none of the classes"
          f" {', '.join(names)}; write class=class,..., the model's first."
      )
  if not pairs:
    raise UserError(
        f"no class of '{tested.name}' has the name of one that the model was"
        f" trained on ({', '.join(trained.names)}); say which correspond with"
        " --config.eval.map=class=class,..., the model's first."
    )
  return list(dict.fromkeys(pairs))


class Translated:
  """A source whose labels are in the classes shared with a model's."""

  def __init__(self, source: Source, shared: Common):
    self.label_space = shared.space
    self._source, self._of_labels = source, shared.of_labels
    if hasattr(source, "shapes"):
      self.shapes = source.shapes

  @property
  def files(self) -> list[tuple[Path, Path]]:
    return files_of(self._source)

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    image, labels = self._source[index]
    return image, self._of_labels[labels]
