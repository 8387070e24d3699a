"""The exceptions that reach a user as a sentence, and how they do."""

import sys


class UserError(ValueError):
  """A value from outside is wrong: which, what was expected, how to mend it.

  Raised where input enters the program (config, files, command line, public
  functions). The command line prints it on one line and exits with code 2.
  """


class Terminated(KeyboardInterrupt):
  """SIGTERM came: what ends well on Ctrl-C ends as well on this."""


def say(error: Exception | str) -> None:
  """Prints an error on one line of stderr."""
  print("error:", " ".join(str(error).split()), file=sys.stderr)
