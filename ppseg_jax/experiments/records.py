"""What the runs of a suite left behind, by line of the table."""

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

from ppseg_jax.encryption import leaks
from ppseg_jax.errors import UserError
from ppseg_jax.experiments.suite import Job, Row, Run
from ppseg_jax.runs.record import Record


@dataclasses.dataclass(frozen=True)
class Line:
  """A row of the suite with what its runs left.

  Attributes:
    run: the training.
    row: how it is tested.
    jobs: one a seed.
    records: by seed; None where there is none, or where it is not of this
      suite's config.
    why: why records are missing, by seed.
    scheme: of the images it was tested on.
    leaks: what the cloud sees.
  """

  run: Run
  row: Row
  jobs: list[Job]
  records: dict[int, Record | None]
  why: dict[int, str]
  scheme: str
  leaks: str

  def values(self, figure: str, name: str = "") -> list[float]:
    """A figure, or one class's, of every record that has it."""
    found = [
        getattr(record, figure) for record in self.records.values() if record
    ]
    if name:
      found = [classes.get(name) for classes in found]
    return [value for value in found if value is not None]

  def count(self) -> tuple[int, int]:
    """How many records there are, of how many wanted."""
    return sum(map(bool, self.records.values())), len(self.records)


def collect(runs: list[Run], jobs: list[Job]) -> list[Line]:
  """The lines of the suite, with the records that lie in its folder."""
  return _lines(runs, jobs, _record)


def of_csv(runs: list[Run], jobs: list[Job], path: Path) -> list[Line]:
  """The lines of the suite, with those of a report's `records.csv`.

  They have mIoU and accuracy alone, and do not tell which data set they are of.

  Raises UserError for another file, and where it has no record of the suite.
  """
  try:
    with path.open(newline="") as text:
      found = {
          (row["method"], row["run"], int(row["seed"])): Record(
              **{name: float(row[name]) for name in _IN_CSV},
              frequency_weighted_iou=None, mean_dice=None, class_iou={},
              class_dice={}, images=int(row["images"]),
              pixels=int(row["pixels"]), confusion=[],
          ) for row in csv.DictReader(text) if row["state"] == "done"
      }
  except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
    raise UserError(
        f"{path} cannot be read as the records.csv of a suite's report:"
        f" {error!r}; give one, or the folder of the suite's runs."
    ) from None

  def record(job: Job, row: Row) -> tuple[Record | None, str]:
    one = found.get((row.name, job.run.name, job.seed))
    return one, "" if one else f"not in {path.name}"

  lines = _lines(runs, jobs, record)
  if not any(line.count()[0] for line in lines):
    raise UserError(f"{path} has records, but none of a row of this suite.")
  return lines


_IN_CSV = ("miou", "pixel_accuracy", "mean_accuracy")


def _lines(
    runs: list[Run], jobs: list[Job],
    record: Callable[[Job, Row], tuple[Record | None, str]],
) -> list[Line]:
  lines = []
  for run in runs:
    own = [job for job in jobs if job.run is run]
    for row in run.rows:
      records, why = {}, {}
      for job in own:
        records[job.seed], reason = record(job, row)
        if reason:
          why[job.seed] = reason
      config = own[0].config()
      scheme = row.test.get("scheme") or config.scheme
      seen = row.leaks or leaks(
          scheme, row.test.get("key_plan") or config.key_plan
      )
      lines.append(Line(run, row, own, records, why, scheme, seen))
  return lines


def _record(job: Job, row: Row) -> tuple[Record | None, str]:
  try:
    if job.done(row):
      return job.found(row), ""
  except UserError:
    return None, "of another config"
  return None, "not run"
