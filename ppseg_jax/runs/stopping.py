"""Ending a run between two steps, when it is asked to."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from ppseg_jax.errors import Terminated


def stopped(number: int, text: str) -> KeyboardInterrupt:
  """What to raise for a signal, with what to tell the user."""
  kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
  return kind(text)


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], int]]:
  """Gives a function that tells which of SIGINT and SIGTERM came, or 0.

  The first of them is only noted, so that what is going on ends well; the
  second ends it at once, by raising what `stopped` gives. On leaving, the
  handlers are what they were. Outside the main thread nothing is noted.
  """
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
