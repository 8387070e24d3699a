r"""Accuracy against what attacks get: a table and a figure.

python -m ppseg_jax.experiments.frontier \
    --suite=configs/suites/knobs.py:camvid --records=W \
    --suite=configs/suites/levels.py:camvid --records=V \
    --attacks=A/attacks.json --attacks=B/attacks.json --out=FOLDER

Joins the records of suites with the rows that `ppseg_jax.attacks` left in A and
B (one run for each block size and seed, say), by scheme and block. For
each scheme and measure the attack with the best mean over seeds counts, the
ciphertext as it is among them: a scheme is worth what its best attack leaves of
it, whichever that is.

W and V are the folders of the suites' runs, or the records.csv of their
reports.
"""

import dataclasses
import os
import statistics
import sys
from pathlib import Path

from matplotlib.figure import Figure

from ppseg_jax import command, files
from ppseg_jax.encryption import get_scheme
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import figures, report, suite
from ppseg_jax.experiments.attacked import (
    MEASURES,
    Best,
    best_attacks,
    read_rows,
)
from ppseg_jax.experiments.labels import Named, name_points
from ppseg_jax.experiments.records import Line, collect, of_csv

_OURS = "#d9541e"  # readable on black and on white, as figures.GREY is

@dataclasses.dataclass(frozen=True)
class Point:
  """A line of the suite and the best attack on its scheme.

  Attributes:
    line: of the suite.
    scheme: that was attacked.
    block: its block size in pixels.
    best: by measure, without measures that were not taken.
  """

  line: Line
  scheme: str
  block: int
  best: dict[str, Best]


def join(lines: list[Line], rows: list[dict]) -> list[Point]:
  """A point for each line that has records; plain images are seen as they are.

  Raises UserError where the scheme of such a line was not attacked.
  """
  points = []
  ceiling = next(row for row in rows if row["attack"] == "ceiling")
  for line in lines:
    if not line.values("miou"):
      continue
    scheme = line.row.attacked or line.scheme
    block = line.jobs[0].config().block
    if scheme == "plain":
      best = {name: Best(ceiling[name], "none needed") for name in MEASURES
              if ceiling.get(name) is not None}
    else:
      best = best_attacks(rows, scheme, block)
    if not best:
      raise UserError(
          f"row '{line.row.name}': scheme '{scheme}' was not attacked with"
          f" blocks of {block}; run ppseg_jax.attacks with --config.schemes and"
          " --config.block that name it, and add its result by --attacks."
      )
    points.append(Point(line, scheme, block, best))
  return points


def _taken(points: list[Point]) -> list[str]:
  """The measures that some attack was judged by."""
  return [name for name in MEASURES
          if any(name in point.best for point in points)]


def table(points: list[Point], rows: list[dict]) -> list[list[str]]:
  """Heading and cells: method, accuracy, the best attack by each measure."""
  measures = _taken(points)
  cells = [["method", "attacked", "mIoU",
            *(f"best attack, {MEASURES[name]}" for name in measures)]]
  for point in points:
    shown = report.spread(point.line.values("miou"), len(point.line.records))
    attacked = point.scheme
    if attacked != "plain":
      attacked += f", {point.block}x{point.block}"
    cells.append([point.line.row.name, attacked, shown] + [
        str(point.best.get(name, "-")) for name in measures
    ])
  for row in rows:
    if row["attack"] in ("floor", "ceiling"):
      what = {"floor": "unrelated images", "ceiling": "the image itself"}
      cells.append([what[row["attack"]], "", ""] + [
          f"{row[name]:.2f}" for name in measures
      ])
  return cells


def draw(points: list[Point], rows: list[dict]) -> str:
  """mIoU over the best attack's score, a panel a measure, as SVG.

  Ours are in colour and named; others are grey, and named where there is room.
  The dotted line is what unrelated images score.
  """
  measures = _taken(points)
  figure = Figure(figsize=(9, 5 * len(measures)), layout="constrained")
  panels = figure.subplots(len(measures), squeeze=False)[:, 0]
  named = {axis: [] for axis in panels}
  for axis, measure in zip(panels, measures, strict=True):
    for point in points:
      if measure not in point.best:
        continue
      values = [100 * value for value in point.line.values("miou")]
      best, mean = point.best[measure], statistics.mean(values)
      colour = _OURS if _is_ours(point) else figures.GREY
      axis.errorbar(
          best.value, mean, statistics.stdev(values) if values[1:] else None,
          best.spread, marker="o", ms=4, color=colour, elinewidth=0.7,
      )
      name = point.line.row.name.removesuffix(" (ours)")
      named[axis].append(Named(
          best.value, mean, name, colour, must=colour == _OURS
      ))
    for row in rows:
      if row["attack"] == "floor" and row.get(measure) is not None:
        axis.axvline(row[measure], color=figures.GREY, ls=":")
    axis.margins(x=0.25)
    axis.set_xlabel(f"best attack: {MEASURES[measure]}", color=figures.GREY)
    axis.set_ylabel("mIoU", color=figures.GREY)
    figures.plain_axis(axis)
  for axis, names in named.items():
    name_points(axis, names)
  return figures.as_svg(figure)


def _is_ours(point: Point) -> bool:
  """Whether the model was trained on a scheme of this project."""
  trained_on = point.line.jobs[0].config().scheme
  return get_scheme(trained_on).source == "ppseg_jax."


def _main(argv: list[str]) -> int:
  parser = command.Parser(
      prog="python -m ppseg_jax.experiments.frontier", description=__doc__,
  )
  add = parser.add_argument
  add("--suite", required=True, metavar="FILE[:ARGUMENT]", action="append",
      help="a suite, as in paper.py:camvid; may be given several times")
  add("--records", required=True, type=command.path, action="append",
      help="of each suite in order: the folder of its runs, or a records.csv")
  add("--attacks", required=True, type=command.path, action="append",
      help="an attacks.json of ppseg_jax.attacks; may be given several times")
  add("--out", required=True, type=command.path,
      help="folder for table and figure")
  add("--data-dir", default="", type=os.path.expanduser,
      help="as the suites were run")
  args = parser.parse_args(argv)
  if len(args.suite) != len(args.records):
    raise UserError(
        f"{len(args.suite)} --suite and {len(args.records)} --records were"
        " given; give one --records for each --suite, in their order."
    )
  rows = read_rows(args.attacks)
  lines = []
  for file, records in zip(args.suite, args.records, strict=True):
    lines += _lines(file, records, args.data_dir)
  points = join(lines, rows)
  args.out.mkdir(parents=True, exist_ok=True)
  cells = table(points, rows)
  files.write_text(args.out / "frontier.md", report.as_markdown(cells))
  files.write_text(args.out / "frontier.csv", report.as_csv(cells))
  files.write_text(args.out / "frontier.svg", draw(points, rows))
  print(report.as_markdown(cells), end="")
  return 0


def _lines(file: str, records: Path, data_dir: str) -> list[Line]:
  runs = suite.load(file)
  if records.is_dir():
    runs = suite.with_found_seeds(runs, records)
    return collect(runs, suite.jobs(runs, records, data_dir=data_dir))
  jobs = suite.jobs(runs, records.parent, data_dir=data_dir)
  return of_csv(runs, jobs, records)


def main(argv: list[str] | None = None) -> int:
  """Runs a command line, sys.argv by default; returns the exit code."""
  words = sys.argv[1:] if argv is None else argv
  return command.run(lambda: _main(words))


if __name__ == "__main__":
  sys.exit(main())
