"""Calls for many files at once, with progress."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

_QUIET = 1.0  # seconds before progress is shown


def count() -> int:
  """How many threads read files: one for each core that this process may use.

  That may be fewer than the machine has, in a container or under SLURM.
  """
  affinity = getattr(os, "sched_getaffinity", None)  # not on every system
  cores = len(affinity(0)) if affinity else os.cpu_count() or 1
  return min(cores, 16)


def in_threads(call: Callable, jobs: list) -> Iterator:
  """Yields call(job) in order; shows progress where it takes a while."""
  pool = ThreadPoolExecutor(count())
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
