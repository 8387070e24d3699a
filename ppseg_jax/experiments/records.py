"""What the runs of a suite left behind, by line of the table."""

import dataclasses

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
  lines = []
  for run in runs:
    own = [job for job in jobs if job.run is run]
    for row in run.rows:
      records, why = {}, {}
      for job in own:
        records[job.seed], reason = _record(job, row)
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
