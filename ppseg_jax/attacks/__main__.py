"""Command line: python -m ppseg_jax.attacks --config=configs/attacks.py

Attacks every scheme of the config with every attack of the config, prints a
table and writes attacks.json and panels/ to --workdir.
"""

import sys

from absl import flags

from ppseg_jax import command
from ppseg_jax.attacks import suite


def _define(values: flags.FlagValues) -> None:
  flags.DEFINE_string(
      "workdir", "runs/attacks", "Folder of attacks.json and panels/.",
      flag_values=values,
  )


def _main(argv: list[str]) -> int:
  given = command.parse(argv, __doc__, "configs/attacks.py", _define)
  folder = command.path(given.flags.workdir)
  suite.run(given.config, folder, lambda text: print(text, flush=True))
  print(f"done: attacks.json and panels/ lie in {folder.absolute()}")
  return 0


def main(argv: list[str] | None = None) -> int:
  """Runs a command line, sys.argv by default; returns the exit code."""
  words = sys.argv[1:] if argv is None else argv
  return command.run(lambda: _main(words))


if __name__ == "__main__":
  sys.exit(main())
