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

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import ml_collections
import numpy as np

from ppseg_jax import data, pictures
from ppseg_jax.data import encrypted
from ppseg_jax.data.folders import read_pair
from ppseg_jax.data.label_files import Palettes
from ppseg_jax.data.pipeline import Source, files_of, shards_of
from ppseg_jax.data.report import Report, Split, dense
from ppseg_jax.data.threads import in_threads
from ppseg_jax.errors import UserError

_NAMED = 3  # bad files in one sentence


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
    raise UserError(" ".join([*bad[:_NAMED], *report.shifted()]) + more)
  return report


def inspect(
    config: ml_collections.ConfigDict,
    splits: tuple[str, ...],
    remembered: dict | None = None,
) -> Report:
  """As `scan`, with bad files in the report's `failures`.

  With the split `train` the files that `config.more` names are read as well.

  Raises UserError for a data set that is not there at all, or another one.
  """
  sources = {
      name: data.load(config, name, cache=False)
      for name in dict.fromkeys(splits)
  }
  roots = data.roots_of(config)
  space = next(iter(sources.values())).label_space
  report = Report(
      space,
      {name: Split(len(source), not (files_of(source) or shards_of(source)),
                   getattr(source, "skipped", 0), fingerprint(source, roots))
       for name, source in sources.items()},
      _stamp(sources, roots),
  )
  if remembered:
    check_same(remembered, report.to_json())
  if "train" in splits:
    before = (remembered or {}).get("more", {})
    for i, other in enumerate(data.more_of(config), 1):
      name = f"{other.name}, {i} of data.more"  # of two data sets of one name
      found = inspect(other, ("train",), before.get(name))
      report.more[name] = found
      report.failures += found.failures
  if remembered and "duplicates" in remembered and (
      remembered.get("stamp") == report.stamp
  ):
    for name, split in report.splits.items():
      if not split.drawn:
        found = remembered["splits"][name]
        split.pixels = dense(found["pixels_of_raw_ids"])
        split.present = dense(found["images_of_train_ids"])
        split.sizes, split.modes = found["sizes"], found["modes"]
    report.duplicates = remembered["duplicates"]
    return report
  read = lambda image, labels: read_pair(image, labels, space)
  if config.name == encrypted.NAME:
    read = encrypted.reader(encrypted.declaration(config.dir))
  _read(sources, report, roots, read)
  return report


class _Pair(NamedTuple):
  """What reading an image and its labels gives."""

  pixels: np.ndarray | None = None  # int [256], of each raw id
  palette: bytes | None = None
  size: str = ""
  modes: tuple[str, ...] = ()
  digest: bytes = b""  # of the picture's values
  failure: str = ""


def _read(
    sources: dict[str, Source], report: Report, roots: list[Path],
    read: Callable,
) -> None:
  """Decodes all files; fills in the counts and the failures.

  Of a source whose examples lie in files of many, all examples. `read` is
  `read_pair` for the source's label space, or in its place.
  """
  jobs = [
      (name, example) for name, source in sources.items()
      for example in files_of(source) or (
          range(len(source)) if shards_of(source) else ()
      )
  ]
  for split in report.splits.values():
    if not split.drawn:
      split.pixels, split.present = [0] * 256, [0] * 256
  palettes = Palettes()
  first: dict[bytes, tuple[str, str]] = {}  # where a picture was met first

  def one(job: tuple[str, tuple[Path, Path] | int]) -> _Pair:
    name, example = job
    palette, modes = None, ()
    try:
      if isinstance(example, int):
        image, labels = sources[name].raw(example)
      else:
        image, labels, palette = read(*example)
        modes = tuple(f"{kind} {_mode(path)}" for kind, path in
                      zip(("image", "labels"), example, strict=True))
    except UserError as error:
      return _Pair(failure=str(error))
    height, width = labels.shape
    return _Pair(
        np.bincount(labels.ravel(), minlength=256), palette,
        f"{width}x{height}", modes,
        hashlib.sha256(f"{width}x{height}".encode() + image.tobytes()).digest(),
    )

  for (name, example), pair in zip(jobs, in_threads(one, jobs), strict=True):
    if pair.pixels is None:
      report.failures.append(pair.failure)
      continue
    split = report.splits[name]
    for counts, keys in ((split.sizes, (pair.size,)),
                         (split.modes, pair.modes)):
      for key in keys:
        counts[key] = counts.get(key, 0) + 1
    if isinstance(example, int):
      image = labels = f"{name}[{example}]"
    else:
      image, labels = _name(example[0], roots), example[1]
    where, other = first.setdefault(pair.digest, (name, image))
    if where != name:
      report.duplicates.append([other, image])
    ids = np.flatnonzero(pair.pixels).astype(np.uint8)
    for raw in ids:
      split.pixels[raw] += int(pair.pixels[raw])
    try:
      if not isinstance(example, int):
        palettes.check(labels, pair.palette)
      trains = report.space.to_train_ids(ids, str(labels))
      for train in np.unique(trains):
        split.present[train] += 1
    except UserError as error:
      report.failures.append(str(error))


def _mode(path: Path) -> str:
  with pictures.opened(path) as image:
    return image.mode


def fingerprint(source: Source, roots: list[Path]) -> dict:
  """Count, total size, and hashes of names and of sizes of a source's files.

  Names are relative to the `roots`, so that a data set that was moved is the
  same; times do not count. Of what is drawn there is the count alone.
  """
  facts = [(name, size) for name, size, _ in _facts(source, roots)]
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
  was, found = remembered.get("label_space"), now.get("label_space")
  if isinstance(was, dict) and found and was != found:
    raise UserError(
        f"the data changed: this run has the classes {', '.join(was['names'])}"
        f" and now there are {', '.join(found['names'])}, or their ids or"
        " colours are others; give the data it was made with by"
        " --config.data.dir=, or another --workdir."
    )
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
  found = fingerprint(source, data.roots_of(config))
  check_same(remembered, {"fingerprint": {split: found},
                          "label_space": source.label_space.to_json()})


def _stamp(sources: dict[str, Source], roots: list[Path]) -> str:
  """A hash that changes where a file's name, size or time does."""
  return _sha256(
      (name, *fact) for name, source in sources.items()
      for fact in _facts(source, roots)
  )


def _name(path: Path, roots: list[Path]) -> str:
  """`path` from the root it lies in; of several with the root's number."""
  if len(roots) == 1:
    return os.path.relpath(path, roots[0])
  at = next(i for i, root in enumerate(roots) if path.is_relative_to(root))
  return f"{at}/{os.path.relpath(path, roots[at])}"


def _facts(
    source: Source, roots: list[Path]
) -> list[tuple[str, int, int]]:
  """(relative path, size, time in ns) of each file; -1 for one missing."""
  facts = []
  paths = [path for pair in files_of(source) for path in pair]
  for path in paths + shards_of(source):
    name = _name(path, roots)
    try:
      stat = path.stat()
      facts.append((name, stat.st_size, stat.st_mtime_ns))
    except OSError:
      facts.append((name, -1, -1))
  return facts


def _sha256(values: Iterable) -> str:
  digest = hashlib.sha256()
  for value in values:
    digest.update(repr(value).encode())
  return digest.hexdigest()
