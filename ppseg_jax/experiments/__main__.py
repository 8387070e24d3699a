"""Command line: python -m ppseg_jax.experiments --suite=... --workdir=W

Runs what is left of the suite and writes W/report. Exit code 0: all is done;
1: some runs failed, and are named at the end; 2: the command is wrong.
"""

import argparse
import os
import sys

from ppseg_jax import command
from ppseg_jax.errors import UserError


def parse(argv: list[str]) -> argparse.Namespace:
  """The flags; UserError for one that is wrong or missing."""
  parser = command.Parser(
      prog="python -m ppseg_jax.experiments",
      description="Runs a suite of experiments and reports on it.",
  )
  add = parser.add_argument
  add("--suite", required=True, metavar="FILE[:ARGUMENT]",
      help="the suite, as in paper.py:camvid")
  add("--workdir", required=True, type=command.path,
      help="folder of all runs and of the report")
  add("--only", default="", metavar="NAME[,NAME]",
      help="these runs or rows only")
  add("--part", default="1/1", metavar="I/N",
      help="the I-th of N parts only, 1 to N, as an array job")
  add("--seeds", default="", metavar="SEED[,SEED]",
      help="in place of the suite's own")
  add("--data-dir", default="", type=os.path.expanduser,
      help="folder of the data set")
  add("--report-only", action="store_true",
      help="report on what is there, run nothing")
  return parser.parse_args(argv)


def _numbers(flag: str, text: str, separator: str) -> tuple[int, ...]:
  try:
    return tuple(int(x) for x in text.split(separator)) if text else ()
  except ValueError:
    raise UserError(
        f"{flag}={text} is not numbers with '{separator}' between."
    ) from None


def _main(argv: list[str]) -> int:
  arguments = parse(argv)
  # Imported late, so that a mistyped flag is answered at once.
  from ppseg_jax.experiments import report, runner, suite

  seeds = _numbers("--seeds", arguments.seeds, ",")
  part = command.part(arguments.part)
  runs = suite.load(arguments.suite)
  root = arguments.workdir
  if arguments.data_dir and not os.path.isdir(arguments.data_dir):
    raise UserError(f"--data-dir={arguments.data_dir} is no folder.")
  every = suite.jobs(runs, root, seeds, arguments.data_dir)
  jobs, rows = runner.select(every, list(filter(None,
                                                arguments.only.split(","))))
  failures = []
  if not arguments.report_only:
    jobs = suite.part(jobs, *part)
    failures = runner.run_jobs(jobs, rows)
  # Seeds that others ran, in other parts, belong to the report too.
  known = suite.with_found_seeds(runs, root, seeds)
  page = report.write(
      known, suite.jobs(known, root, data_dir=arguments.data_dir),
      root / "report", arguments.suite,
  )
  print(f"report: {page.absolute()}")
  if failures:
    print(f"{len(failures)} step(s) failed:", *failures, sep="\n  ",
          file=sys.stderr)
  return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
  """Runs a command line, sys.argv by default; returns the exit code."""
  words = sys.argv[1:] if argv is None else argv
  return command.run(lambda: _main(words))


if __name__ == "__main__":
  sys.exit(main())
