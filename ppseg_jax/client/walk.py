"""Walking a folder of pictures, one after another.

With its subfolders (not hidden ones, whose names begin with a dot, and not
symbolic links to folders); relative paths are kept: `a/b.jpg` becomes
`a/b.png`.
"""

import collections
import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

from ppseg_jax import pictures
from ppseg_jax.client import files
from ppseg_jax.client.parts import WHOLE, Part, tag
from ppseg_jax.errors import UserError


@dataclasses.dataclass
class Summary:
  """What became of the files of a folder, each by its relative path.

  Attributes:
    done: written by this run.
    before: found done.
    skipped: no pictures.
    failed: 'path: reason' of each picture that was not written.
    padded: encrypted, now or before, with padding: see `pictures.pad` for what
      that shows.
    others: the number of pictures that belong to other parts.
    opened: on decryption, the pictures that each key file opened, by its path.
    unprotected: where regions are to be protected, the pictures without any.
    large: sent to a server at twice the height that it is ready for, or more.
  """

  done: list[str] = dataclasses.field(default_factory=list)
  before: list[str] = dataclasses.field(default_factory=list)
  skipped: list[str] = dataclasses.field(default_factory=list)
  failed: list[str] = dataclasses.field(default_factory=list)
  padded: list[str] = dataclasses.field(default_factory=list)
  others: int = 0
  opened: dict[Path, list[str]] = dataclasses.field(default_factory=dict)
  large: list[str] = dataclasses.field(default_factory=list)
  unprotected: list[str] = dataclasses.field(default_factory=list)


def find_pictures(folder: Path) -> tuple[list[Path], list[str]]:
  """(relative paths of pictures, those of other files), both sorted."""
  found, others, folders = [], [], [folder]
  while folders:
    here = folders.pop()
    for entry in _visible(here):
      path = here / entry.name
      if _answers(entry.is_dir) and not entry.is_symlink():
        folders.append(path)
      else:
        wanted = _answers(entry.is_file) and pictures.is_picture(path)
        (found if wanted else others).append(path)
  if not found:
    raise UserError(f"IN_DIR={folder} holds no pictures; give one with some.")
  return (
      sorted(path.relative_to(folder) for path in found),
      sorted(path.relative_to(folder).as_posix() for path in others),
  )


def _visible(folder: Path) -> list[os.DirEntry]:
  """What the folder holds; each knows its kind, mostly without a look at it."""
  try:
    with os.scandir(folder) as entries:
      return [entry for entry in entries if not entry.name.startswith(".")]
  except OSError as error:
    raise UserError(
        f"{folder} cannot be read ({error.strerror}); mend or move it."
    ) from None


def _answers(question: Callable[[], bool]) -> bool:
  """Yes or no; no of links that lead nowhere or in a circle."""
  try:
    return question()
  except OSError:
    return False


def _check_clashes(source: Path, paths: list[Path]) -> None:
  """Folded, since some file systems do not tell a.png from A.png."""
  seen = {}
  for path in paths:
    name = path.with_suffix(".png")
    other = seen.setdefault(str(name).casefold(), path)
    if other is not path:
      raise UserError(
          f"IN_DIR={source}: {other} and {path} would both become {name};"
          " rename one."
      )


def find_part(
    folder: Path, part: Part = WHOLE
) -> tuple[list[Path], list[str], int]:
  """Pictures of a part, its other files, the number of pictures in other parts.

  Paths as of `find_pictures`. Raises UserError where two pictures of the whole
  folder would become one, so that all parts refuse them, whichever comes first.
  """
  found, others = find_pictures(folder)
  _check_clashes(folder, found)
  paths = [path for path in found if part.holds(tag(path))]
  return (
      paths,
      [name for name in others if part.holds(tag(PurePath(name)))],
      len(found) - len(paths),
  )


def each(
    verb: str,
    paths: list[Path],
    output: files.Output,
    one: Callable[[Path, files.Output], bool],
    jobs: int = 1,
    stop: Callable[[], None] = lambda: None,
) -> Summary:
  """Calls `one` on each path: True for written, False for done before.

  Args:
    verb: what is done, for the progress line.
    paths: of the pictures.
    output: passed on to `one`.
    one: raises UserError where a picture cannot be done; anything else, and
      WriteError, ends the walk.
    jobs: so many at a time, each in a thread of its own.
    stop: called where the walk ends early, so that what runs ends soon.
  """
  summary = Summary()
  progress = _Progress(verb, len(paths))

  def tried(path: Path) -> tuple[bool, UserError | None]:
    try:
      return one(path, output), None
    except files.WriteError:
      raise
    except UserError as error:
      return False, error

  with contextlib.closing(_called(tried, paths, jobs, stop)) as calls:
    for path, (done, error) in zip(paths, calls, strict=True):
      if error:
        summary.failed.append(f"{path.as_posix()}: {error}")
      else:
        (summary.done if done else summary.before).append(path.as_posix())
      progress.step()
  progress.close()
  return summary


def _called(
    call: Callable, items: list, jobs: int, stop: Callable[[], None]
) -> Iterator:
  """map(call, items), so many at a time and not many more waiting."""
  if jobs == 1:
    yield from map(call, items)
    return
  pool, waiting = ThreadPoolExecutor(jobs), collections.deque()
  try:
    for item in items:
      waiting.append(pool.submit(call, item))
      if len(waiting) > 2 * jobs:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  except BaseException:
    stop()
    raise
  finally:
    pool.shutdown(cancel_futures=True)


class _Progress:
  """A line on stderr that is written over, or one every ten seconds."""

  def __init__(self, verb: str, total: int):
    self._verb, self._total, self._count = verb, total, 0
    self._bar = sys.stderr.isatty()
    self._start = self._shown = time.monotonic()

  def step(self) -> None:
    self._count += 1
    now = time.monotonic()
    if now - self._shown < (0.1 if self._bar else 10):
      return
    self._shown = now
    self._show(now)

  def _show(self, now: float) -> None:
    rate = self._count / max(now - self._start, 1e-9)
    left = (self._total - self._count) / rate
    text = (f"{self._count}/{self._total} {self._verb}, {rate:.1f} a second,"
            f" {left:.0f} s left")
    if self._bar:
      done = 20 * self._count // self._total
      text = f"\r[{'#' * done:20}] {text}\x1b[K"
    print(text, end="" if self._bar else "\n", file=sys.stderr, flush=True)

  def close(self) -> None:
    if self._bar:
      self._show(time.monotonic())
      print(file=sys.stderr)
