"""The one exception that reaches a user as a sentence."""


class UserError(ValueError):
  """A value from outside is wrong: which, what was expected, how to mend it.

  Raised where input enters the program (config, files, command line, public
  functions). The command line prints it on one line and exits with code 2.
  """
