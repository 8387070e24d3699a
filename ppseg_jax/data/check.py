"""Reads every file of a data set once, before a run does.

`scan` decodes all files of all splits, counts their classes and refuses what
cannot be trained on, so that the last file of the validation split is judged
in the first minute. It is not repeated for files of the same names, sizes and
times. What a run's data was is a fingerprint of names, sizes and counts, which
holds wherever the data set lies:

    report = check.scan(config.data, ("train", "val"), what data.json holds)
    report.lines(), report.warnings()  # for the terminal
    report.to_json()  # for data.json, in the run's folder
"""

import dataclasses
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_collections
import numpy as np

from ppseg_jax import data
from ppseg_jax.data.folders import read_pair
from ppseg_jax.data.label_files import Palettes
from ppseg_jax.data.labels import VOID, LabelSpace
from ppseg_jax.data.pipeline import Source, files_of, shards_of
from ppseg_jax.errors import UserError

_NAMED = 3  # bad files in one sentence
_ENOUGH = 20  # images, from which a missing first or last class says something
_QUIET = 1.0  # seconds before progress is shown


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
  """

  images: int
  drawn: bool
  skipped: int
  files: dict
  pixels: list[int] = dataclasses.field(default_factory=list)
  present: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Report:
  """What a scan found; `failures` has a sentence for each bad file."""

  space: LabelSpace
  splits: dict[str, Split]
  stamp: str
  failures: list[str] = dataclasses.field(default_factory=list)

  @property
  def fingerprint(self) -> dict[str, dict]:
    return {name: split.files for name, split in self.splits.items()}

  def to_json(self) -> dict:
    """What `scan` and `check_same` take as `remembered`."""
    return {
        "label_space": self.space.name,
        "fingerprint": self.fingerprint,
        "stamp": self.stamp,
        "splits": {
            name: {
                "images": split.images,
                "skipped": split.skipped,
                "pixels_of_raw_ids": _sparse(split.pixels),
                "images_of_train_ids": _sparse(split.present),
            } for name, split in self.splits.items()
        },
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
          f"{label} {_percent(pixels / total)}"
          for label, pixels, _ in rows if pixels
      ))
    return lines

  def warnings(self) -> list[str]:
    """Sentences on classes that never occur, and on ids that look shifted.

    Of classes only where all files could be read.
    """
    found = []
    if self.failures:
      return self._shifted()
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
    return found + self._shifted()

  def _shifted(self) -> list[str]:
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


def scan(
    config: ml_collections.ConfigDict,
    splits: tuple[str, ...],
    remembered: dict | None = None,
) -> Report:
  """Reads all files of the splits; `inspect`, where a bad file is an error.

  Args:
    config: the run's `data`.
    splits: of `data.SPLITS`.
    remembered: `Report.to_json()` of an earlier scan. If names, sizes and times
      of all files are as they were then, none is opened.

  Raises:
    UserError: naming the first few of the bad files, and how many there are;
      or, before any is opened, for other data than what is remembered, see
      `check_same`.
  """
  report = inspect(config, splits, remembered)
  bad = report.failures
  if bad:
    more = (
        f" ({len(bad) - _NAMED} more bad files; python -m ppseg_jax.data check"
        " with this --config names all)" if len(bad) > _NAMED else ""
    )
    raise UserError(" ".join([*bad[:_NAMED], *report._shifted()]) + more)
  return report


def inspect(
    config: ml_collections.ConfigDict,
    splits: tuple[str, ...],
    remembered: dict | None = None,
) -> Report:
  """As `scan`, with bad files in the report's `failures`.

  Raises UserError for a data set that is not there at all, or another one.
  """
  sources = {
      name: data.load(config, name, cache=False)
      for name in dict.fromkeys(splits)
  }
  root = Path(config.dir)
  space = next(iter(sources.values())).label_space
  report = Report(
      space,
      {name: Split(len(source), not (files_of(source) or shards_of(source)),
                   getattr(source, "skipped", 0), fingerprint(source, root))
       for name, source in sources.items()},
      _stamp(sources, root),
  )
  if remembered:
    check_same(remembered, report.to_json())
  if remembered and remembered.get("stamp") == report.stamp:
    for name, split in report.splits.items():
      if not split.drawn:
        found = remembered["splits"][name]
        split.pixels = _dense(found["pixels_of_raw_ids"])
        split.present = _dense(found["images_of_train_ids"])
    return report
  _read(sources, report)
  for name, source in sources.items():
    if shards_of(source):
      _read_shards(name, source, report)
  return report


def _read(sources: dict[str, Source], report: Report) -> None:
  """Decodes all files; fills in the counts and the failures."""
  jobs = [(name, pair) for name, source in sources.items()
          for pair in files_of(source)]
  for split in report.splits.values():
    if not split.drawn:
      split.pixels, split.present = [0] * 256, [0] * 256
  palettes = Palettes()

  def one(job) -> tuple[np.ndarray | None, bytes | None, str]:
    try:
      _, labels, palette = read_pair(*job[1])
    except UserError as error:
      return None, None, str(error)
    return np.bincount(labels.ravel(), minlength=256), palette, ""

  for (name, (_, label_path)), (pixels, palette, failure) in zip(
      jobs, _in_threads(one, jobs), strict=True
  ):
    if pixels is None:
      report.failures.append(failure)
      continue
    split, ids = report.splits[name], np.flatnonzero(pixels).astype(np.uint8)
    for raw in ids:
      split.pixels[raw] += int(pixels[raw])
    try:
      palettes.check(label_path, palette)
      trains = report.space.to_train_ids(ids, str(label_path))
      for train in np.unique(trains):
        split.present[train] += 1
    except UserError as error:
      report.failures.append(str(error))


def _read_shards(name: str, source: Source, report: Report) -> None:
  """As `_read`, of a source whose examples lie in files of many."""
  split = report.splits[name]

  def one(index: int) -> tuple[np.ndarray | None, np.ndarray | None, str]:
    try:
      _, labels = source.raw(index)
      pixels = np.bincount(labels.ravel(), minlength=256)
      ids = np.flatnonzero(pixels).astype(np.uint8)
      trains = report.space.to_train_ids(ids, f"{name}[{index}]")
      return pixels, np.unique(trains), ""
    except UserError as error:
      return None, None, str(error)

  for pixels, trains, failure in _in_threads(one, list(range(len(source)))):
    if failure:
      report.failures.append(failure)
      continue
    split.pixels = (pixels + split.pixels).tolist()
    for train in trains:
      split.present[train] += 1


def _in_threads(call: Callable, jobs: list) -> Iterator:
  """Yields call(job) in order; shows progress where it takes a while."""
  affinity = getattr(os, "sched_getaffinity", None)  # not on every system
  threads = len(affinity(0)) if affinity else os.cpu_count() or 1
  pool = ThreadPoolExecutor(min(threads, 16))
  bar = sys.stderr.isatty()
  due = time.monotonic() + _QUIET
  shown = False
  try:
    for done, result in enumerate(pool.map(call, jobs), 1):
      yield result
      if time.monotonic() >= due:
        shown, due = True, time.monotonic() + (0.1 if bar else 10)
        text = f"reading the data: {done} of {len(jobs)} pairs"
        print(f"\r{text}\x1b[K" if bar else text, end="" if bar else "\n",
              file=sys.stderr, flush=True)
  finally:
    pool.shutdown(wait=True, cancel_futures=True)
    if bar and shown:
      print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def fingerprint(source: Source, root: Path) -> dict:
  """Count, total size, and hashes of names and of sizes of a source's files.

  Names are relative to `root`, so that a data set that was moved is the same;
  times do not count. Of what is drawn there is the count alone.
  """
  facts = [(name, size) for name, size, _ in _facts(source, root)]
  if not facts:
    return {"images": len(source)}
  return {
      "images": len(source),
      "bytes": sum(size for _, size in facts),
      "names": _sha256(name for name, _ in facts),
      "sizes": _sha256(size for _, size in facts),
  }


def check_same(remembered: dict, now: dict) -> None:
  """Raises UserError where two scans were of different data.

  Args:
    remembered: `Report.to_json()` of the run; without a fingerprint it passes.
    now: that of the present data. Splits that only one of them has pass.
  """
  old = remembered.get("fingerprint", {})
  for name, found in now["fingerprint"].items():
    was = old.get(name, found)
    if was == found:
      continue
    if was["images"] != found["images"]:
      what = f"{was['images']} images, and now {found['images']}"
    elif was.get("names") != found.get("names"):
      what = "files of other names"
    else:
      what = (f"files of other sizes ({was['bytes']} bytes in all, and now"
              f" {found['bytes']})")
    raise UserError(
        f"the data changed: the split {name} of this run had {what}; give the"
        " data it was made with by --config.data.dir=, or another --workdir."
    )


def check_run(
    config: ml_collections.ConfigDict, split: str, path: Path
) -> None:
  """`check_same` for a split and what a run's data.json holds, if it is there.

  No file of the split is opened.
  """
  if not path.exists():
    return
  remembered = json.loads(path.read_text())
  source = data.load(config, split, cache=False)
  found = fingerprint(source, Path(config.dir))
  check_same(remembered, {"fingerprint": {split: found}})


def _stamp(sources: dict[str, Source], root: Path) -> str:
  """A hash that changes where a file's name, size or time does."""
  return _sha256(
      (name, *fact) for name, source in sources.items()
      for fact in _facts(source, root)
  )


def _facts(source: Source, root: Path) -> list[tuple[str, int, int]]:
  """(relative path, size, time in ns) of each file; -1 for one missing."""
  facts = []
  paths = [path for pair in files_of(source) for path in pair]
  for path in paths + shards_of(source):
    name = os.path.relpath(path, root)
    try:
      stat = path.stat()
      facts.append((name, stat.st_size, stat.st_mtime_ns))
    except OSError:
      facts.append((name, -1, -1))
  return facts


def _percent(share: float) -> str:
  return "<0.01 %" if share < 1e-4 else f"{100 * share:.3g} %"


def _sparse(counts: list[int]) -> dict[str, int]:
  return {str(i): count for i, count in enumerate(counts) if count}


def _dense(counts: dict[str, int]) -> list[int]:
  return [counts.get(str(i), 0) for i in range(256)]


def _sha256(values: Iterable) -> str:
  digest = hashlib.sha256()
  for value in values:
    digest.update(repr(value).encode())
  return digest.hexdigest()
