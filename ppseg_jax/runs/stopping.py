"""Ending a run between two steps, when it is asked to."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from jax.experimental import multihost_utils

from ppseg_jax import distributed
from ppseg_jax.errors import Terminated


def stopped(number: int, text: str) -> KeyboardInterrupt:
  """What to raise for a signal, with what to tell the user."""
  if distributed.several():
    return distributed.Stopped(text)
  kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
  return kind(text)


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], int]]:
  """Gives a function that tells which of SIGINT and SIGTERM came, or 0.

  The first of them is only noted, so that what is going on ends well; the
  second ends it at once, by raising what `stopped` gives. On leaving, the
  handlers are what they were. Outside the main thread nothing is noted.

  Where several processes are one run it tells of a signal to any of them, in
  all of them at the same call: they must call it equally often. jax passes
  SIGTERM on, which it takes from the moment on when the processes are joined.
  """
  if distributed.several():
    yield from _agreed()
    return
  came = 0

  def note(number, frame):
    nonlocal came
    if came:
      raise stopped(number, "stopped at once.")
    came = number

  if threading.current_thread() is not threading.main_thread():
    yield lambda: 0
    return
  numbers = (signal.SIGINT, signal.SIGTERM)
  before = {number: signal.signal(number, note) for number in numbers}
  try:
    yield lambda: came
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _agreed() -> Iterator[Callable[[], int]]:
  calls, came = 0, 0

  def asked() -> int:
    nonlocal calls, came
    calls += 1
    if not came and multihost_utils.reached_preemption_sync_point(calls):
      came = signal.SIGTERM
    return came

  def pass_on(number, frame):
    os.kill(os.getpid(), signal.SIGTERM)

  before = signal.signal(signal.SIGINT, pass_on)
  try:
    yield asked
  finally:
    signal.signal(signal.SIGINT, before)
