"""The one exception that reaches a user as a sentence, and how it does."""

import sys
from typing import NoReturn


class UserError(ValueError):
  """A value from outside is wrong: which, what was expected, how to mend it.

  Raised where input enters the program (config, files, command line, public
  functions). The command line prints it on one line and exits with code 2.
  """


class Stopped(Exception):
  """A run was asked to stop, and did; its text says how it goes on.

  Attributes:
    signal: the number of the signal that asked.
  """

  def __init__(self, signal: int, text: str):
    super().__init__(text)
    self.signal = signal


def say(error: Exception | str) -> None:
  """Prints an error on one line of stderr."""
  print("error:", " ".join(str(error).split()), file=sys.stderr)


def fail(error: Exception | str) -> NoReturn:
  """Prints an error and exits with code 2."""
  say(error)
  sys.exit(2)
