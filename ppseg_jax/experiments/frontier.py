r"""Accuracy against what attacks get: a table and a figure.

python -m ppseg_jax.experiments.frontier --workdir=W \
    --suite=configs/suites/paper.py:camvid --attacks=A/attacks.json \
    --attacks=B/attacks.json --out=FOLDER

Joins the records of a suite in W with the rows that `ppseg_jax.attacks` left in
A and B (one run for each block size, say), by scheme and block. For each scheme
and measure the best of all attacks counts, the ciphertext as it is among them:
a scheme is worth what its best attack leaves of it, whichever that is.
"""

import dataclasses
import os
import statistics
import sys
from pathlib import Path

from matplotlib.figure import Figure

from ppseg_jax import command, files
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import figures, report, suite
from ppseg_jax.experiments.records import Line, collect
from ppseg_jax.runs import workdir

MEASURES = {  # of a reconstruction -> heading
    "ssim": "SSIM", "edge": "edges", "miou": "recognised, mIoU",
}

# Fields of the attacks' config, besides data, that must be the same to compare.
_SAME = ("images", "others", "seed", "recognition")


@dataclasses.dataclass(frozen=True)
class Point:
  """A line of the suite and the best attack on its scheme.

  Attributes:
    line: of the suite.
    scheme: that was attacked.
    block: its block size in pixels.
    best: measure -> (value, attack); without measures that were not taken.
  """

  line: Line
  scheme: str
  block: int
  best: dict[str, tuple[float, str]]


def best_attacks(
    rows: list[dict], scheme: str, block: int
) -> dict[str, tuple[float, str]]:
  """For each measure the highest value on the scheme and the attack's name.

  Only attacks on keys of each image's own count: with a shared key one known
  pair opens all.
  """
  best = {}
  for measure in MEASURES:
    found = [
        (row[measure], row["attack"]) for row in rows
        if (row["scheme"], row["block"]) == (scheme, block)
        and row["keys"] == "image"
        and row.get(measure) is not None
    ]
    if found:
      best[measure] = max(found)
  return best


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
      best = {name: (ceiling[name], "none needed") for name in MEASURES
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
        "{:.2f} ({})".format(*point.best[name]) if name in point.best else "-"
        for name in measures
    ])
  for row in rows:
    if row["attack"] in ("floor", "ceiling"):
      what = {"floor": "unrelated images", "ceiling": "the image itself"}
      cells.append([what[row["attack"]], "", ""] + [
          f"{row[name]:.2f}" for name in measures
      ])
  return cells


def draw(points: list[Point], rows: list[dict]) -> str:
  """mIoU over the best attack's score, a panel a measure, as SVG."""
  measures = _taken(points)
  figure = Figure(figsize=(4.5 * len(measures), 5), layout="constrained")
  panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
  for axis, measure in zip(panels, measures, strict=True):
    for place, point in enumerate(points):
      if measure not in point.best:
        continue
      values = [100 * value for value in point.line.values("miou")]
      axis.errorbar(
          point.best[measure][0], statistics.mean(values),
          statistics.stdev(values) if len(values) > 1 else None,
          marker="os^Dv"[place // 10 % 5], color=f"C{place % 10}", ls="",
          label=point.line.row.name,
      )
    for row in rows:
      if row["attack"] == "floor" and row.get(measure) is not None:
        axis.axvline(row[measure], color=figures.GREY, ls=":")
    axis.set_xlabel(f"best attack: {MEASURES[measure]}", color=figures.GREY)
    figures.plain_axis(axis)
  panels[0].set_ylabel("mIoU", color=figures.GREY)
  return figures.as_svg(figure, panels[0], columns=2)


def read_rows(paths: list[Path]) -> list[dict]:
  """The rows of every attacks.json of ppseg_jax.attacks that is given.

  Raises UserError without them, and where they were not made of the same images
  under the same keys and judged by the same segmenter.
  """
  rows, first = [], None
  for path in paths:
    if not path.is_file():
      raise UserError(f"--attacks={path} does not exist.")
    result = workdir.read_json(path)
    found, config = result.get("rows"), result.get("config", {})
    if not found or found[0].get("attack") is None or "block" not in config:
      raise UserError(
          f"--attacks={path} holds no rows of attacks; give the attacks.json"
          " that python -m ppseg_jax.attacks wrote."
      )
    made = {name: config.get(name) for name in _SAME}
    made["data"] = {name: value for name, value in config["data"].items()
                    if name not in ("dir", "cache")}
    first = first or made
    for name in made:
      if made[name] != first[name]:
        raise UserError(
            f"--attacks={path} was made with another '{name}' than {paths[0]};"
            " give results that differ in schemes, attacks and block alone."
        )
    found = [{"block": config["block"]} | row for row in found]
    rows += found if not rows else [row for row in found if row["scheme"]]
  return rows


def _main(argv: list[str]) -> int:
  parser = command.Parser(
      prog="python -m ppseg_jax.experiments.frontier", description=__doc__,
  )
  add = parser.add_argument
  add("--suite", required=True, metavar="FILE[:ARGUMENT]",
      help="the suite, as in paper.py:camvid")
  add("--workdir", required=True, type=command.path, help="of the suite")
  add("--attacks", required=True, type=command.path, action="append",
      help="an attacks.json of ppseg_jax.attacks; may be given several times")
  add("--out", required=True, type=command.path,
      help="folder for table and figure")
  add("--data-dir", default="", type=os.path.expanduser,
      help="as the suite was run")
  args = parser.parse_args(argv)
  rows = read_rows(args.attacks)
  runs = suite.with_found_seeds(suite.load(args.suite), args.workdir)
  jobs = suite.jobs(runs, args.workdir, data_dir=args.data_dir)
  points = join(collect(runs, jobs), rows)
  args.out.mkdir(parents=True, exist_ok=True)
  cells = table(points, rows)
  files.write_text(args.out / "frontier.md", report.as_markdown(cells))
  files.write_text(args.out / "frontier.csv", report.as_csv(cells))
  files.write_text(args.out / "frontier.svg", draw(points, rows))
  print(report.as_markdown(cells), end="")
  return 0


def main(argv: list[str] | None = None) -> int:
  """Runs a command line, sys.argv by default; returns the exit code."""
  words = sys.argv[1:] if argv is None else argv
  return command.run(lambda: _main(words))


if __name__ == "__main__":
  sys.exit(main())
