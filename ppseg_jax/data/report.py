"""What the check of a data set found, in numbers and in words."""

import dataclasses

import numpy as np

from ppseg_jax.data.labels import VOID, LabelSpace

_ENOUGH = 20  # images, from which a missing first or last class says something


@dataclasses.dataclass
class Split:
  """What the files of a split are and hold.

  Attributes:
    images: how many.
    drawn: whether they are drawn and not read, so that nothing was counted.
    skipped: files among the images that are no pictures.
    files: their `fingerprint`.
    pixels: [256], of each raw id, over the label files in their own size.
    present: [256], the images in which each train id is.
    sizes: of the images, as in `640x480`, and how many have each.
    modes: of the files, as in `image RGB`, likewise.
  """

  images: int
  drawn: bool
  skipped: int
  files: dict
  pixels: list[int] = dataclasses.field(default_factory=list)
  present: list[int] = dataclasses.field(default_factory=list)
  sizes: dict[str, int] = dataclasses.field(default_factory=dict)
  modes: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Report:
  """What a scan found.

  Attributes:
    space: of the labels.
    splits: by name.
    stamp: changes where a file does.
    duplicates: two files each, relative to the data's folder, that show the
      same picture in different splits.
    failures: a sentence for each bad file.
    more: by name the reports of data sets that are trained on without labels.
  """

  space: LabelSpace
  splits: dict[str, Split]
  stamp: str
  duplicates: list[list[str]] = dataclasses.field(default_factory=list)
  failures: list[str] = dataclasses.field(default_factory=list)
  more: dict[str, "Report"] = dataclasses.field(default_factory=dict)

  @property
  def fingerprint(self) -> dict[str, dict]:
    return {name: split.files for name, split in self.splits.items()}

  def to_json(self) -> dict:
    """What `scan` and `check_same` take as `remembered`."""
    return {
        "label_space": self.space.to_json(),
        "fingerprint": self.fingerprint,
        "stamp": self.stamp,
        "duplicates": self.duplicates,
        "splits": {
            name: {
                "images": split.images,
                "skipped": split.skipped,
                "pixels_of_raw_ids": _sparse(split.pixels),
                "images_of_train_ids": _sparse(split.present),
                "sizes": split.sizes,
                "modes": split.modes,
            } for name, split in self.splits.items()
        },
        "more": {name: found.to_json() for name, found in self.more.items()},
    }

  def classes(self, name: str) -> list[tuple[str, int, int]]:
    """(class, its pixels, images with it) by train id, void last."""
    split = self.splits[name]
    pixels = np.zeros(256, np.int64)
    for raw, train in self.space.raw_to_train.items():
      pixels[train] += split.pixels[raw]
    return [
        (label, int(pixels[train]), split.present[train])
        for train, label in (*enumerate(self.space.names), (VOID, "void"))
    ]

  def lines(self) -> list[str]:
    """A line for each split: its images and the share of each class found."""
    lines = []
    for name, split in self.splits.items():
      head = f"data: {name}, {split.images} images"
      if split.skipped:
        head += f", {split.skipped} other file(s) skipped"
      if split.drawn:
        lines.append(f"{head}, drawn")
        continue
      rows = self.classes(name)
      total = sum(pixels for _, pixels, _ in rows)
      lines.append(f"{head}: " + ", ".join(
          f"{label} {percent(pixels / total)}"
          for label, pixels, _ in rows if pixels
      ))
    for name, found in self.more.items():
      (split,) = found.splits.values()
      lines.append(f"data: {name}, {split.images} images without labels")
    return lines

  def warnings(self) -> list[str]:
    """Sentences on classes that never occur, ids that look shifted, void that
    looks like a class, and pictures that are in two splits.

    Of classes only where all files could be read.
    """
    found = []
    if self.failures:
      return self.shifted() + self._duplicated()
    for name, split in self.splits.items():
      missing = [] if split.drawn else [
          label for label, pixels, _ in self.classes(name)[:-1] if not pixels
      ]
      if missing:
        found.append(
            f"{', '.join(missing)}: no pixel in the {split.images} images of"
            f" {name}; " + ("no model can learn what it never sees."
                            if name == "train" else
                            "the figures say nothing of that.")
        )
    return found + self.shifted() + self._void() + self._duplicated()

  def shifted(self) -> list[str]:
    """Says so where all ids seem one too high or too low.

    Only where at least `_ENOUGH` images were read and all classes occur but
    the first (then ids look one too high) or the last (one too low); in a
    small set others would be missing as well. An id beyond all known ones
    where 0 is never seen needs no such number: it is refused anyway.
    """
    read = [split for split in self.splits.values() if not split.drawn]
    if not read:
      return []
    pixels = np.sum([split.pixels for split in read], 0)
    to_train = self.space.raw_to_train
    raws = sorted(raw for raw, train in to_train.items() if train != VOID)
    missing = [raw for raw in raws if not pixels[raw]]
    enough = sum(split.images for split in read) >= _ENOUGH
    # One past the last class, and one past the last id, void as it may be.
    beyond = [raw for raw in (raws[-1] + 1, max(to_train) + 1)
              if raw < 256 and pixels[raw]]
    if to_train.get(0, VOID) != VOID and not pixels[0] and beyond and (
        beyond[-1] not in to_train or (enough and missing == [0])
    ):
      return [
          f"label ids look one too high: 0 never occurs, and {beyond[-1]} does;"
          " if so, subtract 1 in all label files."
      ]
    if to_train.get(0) == VOID and pixels[0] and enough and (
        missing == [raws[-1]]
    ):
      return [
          f"label ids look one too low: {raws[-1]} never occurs, and 0, which"
          " is void here, does; if so, add 1 in all label files."
      ]
    return []

  def _duplicated(self) -> list[str]:
    if not self.duplicates:
      return []
    first, second = self.duplicates[0]
    return [
        f"{len(self.duplicates)} picture(s) are in two splits, {first} and"
        f" {second} for one: what is trained on is no test."
    ]

  def _void(self) -> list[str]:
    """Says so where 255, by custom void, is a class."""
    train = self.space.raw_to_train.get(255, VOID)
    if train == VOID or not any(
        split.pixels[255] for split in self.splits.values() if not split.drawn
    ):
      return []
    return [
        f"id 255, by custom void, counts as class '{self.space.names[train]}';"
        " if it is none, declare it void."
    ]


def percent(share: float) -> str:
  return "<0.01 %" if share < 1e-4 else f"{100 * share:.3g} %"


def _sparse(counts: list[int]) -> dict[str, int]:
  return {str(i): count for i, count in enumerate(counts) if count}


def dense(counts: dict[str, int]) -> list[int]:
  return [counts.get(str(i), 0) for i in range(256)]
