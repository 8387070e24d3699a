"""Runs the jobs of a suite, one after another.

Each training and each test is a process of its own, the very command a person
would type: what XLA compiled and allocated for one run is gone when the next
starts, a run that is killed for its memory takes no other with it, and a run
can be repeated without the suite. The price is some seconds of start-up each,
and compilation, which JAX's own cache (JAX_COMPILATION_CACHE_DIR) saves where
runs have programs in common.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ppseg_jax.errors import UserError
from ppseg_jax.experiments.suite import Job, Row
from ppseg_jax.runs.workdir import Workdir

_GRACE = 120  # seconds that a run has to save, once it is told to stop


def execute(command: list[str], log: Path) -> int:
  """Runs `python -m ppseg_jax.main`, its output appended to the log.

  A SIGINT or SIGTERM that comes meanwhile is passed on as SIGTERM, upon which
  the run saves; only when it has ended is the exception raised again. It is in
  a process group of its own, since a terminal would send its Ctrl-C to both.
  """
  log.parent.mkdir(parents=True, exist_ok=True)
  with log.open("a") as file, subprocess.Popen(
      [sys.executable, "-m", "ppseg_jax.main", *command],
      stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
      process_group=0,
  ) as run:
    try:
      return run.wait()
    except BaseException:
      run.send_signal(signal.SIGTERM)
      try:
        run.wait(_GRACE)
      except BaseException:  # out of time, or of patience
        run.kill()
      raise


def run_jobs(
    jobs: list[Job],
    rows: set[str] | None = None,
    execute: Callable[[list[str], Path], int] = execute,
) -> list[str]:
  """Does what is left of the jobs; returns a line for each that failed.

  A job whose record exists is skipped, one that was stopped goes on at its
  last checkpoint, and one that fails does not stop the others.

  Args:
    jobs: of the suite.
    rows: names of the rows to test; None for all.
    execute: (arguments of main, log file) -> exit code.

  Raises:
    UserError: before anything runs, where a folder holds another config's run.
  """
  for job in jobs:
    job.done()
  failures = []
  for number, job in enumerate(jobs, 1):
    wanted = [row for row in job.run.rows if rows is None or row.name in rows]
    steps = [None, *(row for row in wanted if row.mode != "train")]
    left = [row for row in steps if not job.done(row)]
    head = f"[{number}/{len(jobs)}] {job.name}"
    if not left:
      print(f"{head}: done before", flush=True)
    for row in left:
      if job.done(row):
        continue  # a refinement gives all its variants at once
      what = f"test '{row.name}'" if row else "training"
      print(f"{head}: {what} ...", flush=True)
      begin = time.monotonic()
      failure = _do(job, row, execute)
      if failure:
        failures.append(f"{job.name}, {what}: {failure}")
        print(f"{head}: {what} failed: {failure}", flush=True)
        if row is None:
          break  # without a trained model there is nothing to test
      else:
        miou = job.found(row).miou
        shown = "no pixel counted" if miou is None else f"mIoU {miou:.4f}"
        print(f"{head}: {what} took {time.monotonic() - begin:.0f} s, {shown}",
              flush=True)
  return failures


def _do(job: Job, row: Row | None, execute: Callable) -> str:
  """Runs one step of a job; what went wrong, or nothing."""
  if row is None and job.run.after:
    before = job.folder.with_name(f"{job.run.after}-{job.seed}")
    if not Workdir(before).result.exists():
      return f"it starts from {before.name}, which is not done."
  log = job.folder.with_name(f"{job.name}.log")
  code = execute(job.command(row), log)
  if code == 0 and job.done(row):
    return ""
  lines = log.read_text().strip().splitlines() if log.exists() else []
  last = lines[-1] if lines else "nothing was printed"
  return f"exit code {code}, {last} (see {log})"


def select(
    jobs: list[Job], only: list[str]
) -> tuple[list[Job], set[str] | None]:
  """Jobs and rows by name: that of a run, of a run and seed, or of a row.

  Raises UserError for a name that is none of these.
  """
  if not only:
    return jobs, None
  chosen, rows = [], set()
  for name in only:
    hits = [job for job in jobs if name in (job.run.name, job.name)]
    rows |= {row.name for job in hits for row in job.run.rows}
    if not hits:
      hits = [job for job in jobs
              if any(row.name == name for row in job.run.rows)]
      rows.add(name)
    if not hits:
      names = dict.fromkeys(job.run.name for job in jobs)
      raise UserError(
          f"--only: '{name}' is neither a run nor a row of the suite; its runs"
          f" are {', '.join(names)}."
      )
    chosen += hits
  return [job for job in jobs if job in chosen], rows
