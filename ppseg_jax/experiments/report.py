"""The report of a suite: tables from the runs' own records, and a page."""

import csv
import io
import statistics
from pathlib import Path

from ppseg_jax import files
from ppseg_jax.experiments import figures, page
from ppseg_jax.experiments.records import Line, collect
from ppseg_jax.experiments.suite import Job, Run

FIGURES = {  # field of a record -> its heading
    "miou": "mIoU",
    "pixel_accuracy": "pixel acc.",
    "mean_accuracy": "mean acc.",
}
MORE = {  # of the second table
    "frequency_weighted_iou": "freq.-weighted IoU",
    "mean_dice": "mean Dice",
    "boundary_iou": "boundary IoU",
}


def spread(values: list[float], wanted: int) -> str:
  """Percent: mean and sample standard deviation, and the count of seeds."""
  if not values:
    return "missing"
  shown = f"{100 * statistics.mean(values):.1f}"
  if len(values) > 1:
    shown += f" ± {100 * statistics.stdev(values):.1f}"
  of = "" if len(values) == wanted else f" of {wanted}"
  return f"{shown} ({len(values)}{of})"


def measured(line: Line, values: list[float]) -> str:
  """As `spread`; `-` where there are records, but none has the figure."""
  if line.count()[0] and not values:
    return "-"
  return spread(values, len(line.records))


def main_table(lines: list[Line]) -> list[list[str]]:
  """Heading and cells: method, what is shared, what leaks, the figures.

  The mIoU of a single seed has its interval over images beside it.
  """
  head = ["method", "who shares what", "what leaks", *FIGURES.values()]

  def cell(line, figure):
    text = spread(line.values(figure), len(line.records))
    intervals = line.values("miou_interval")
    if figure == "miou" and len(line.values("miou")) == len(intervals) == 1:
      low, high = (f"{100 * value:.1f}" for value in intervals[0])
      text = text.replace(" ", f" [{low}, {high}] ", 1)
    return text

  return [head] + [
      [line.row.name, line.row.shares, line.leaks]
      + [cell(line, figure) for figure in FIGURES] for line in lines
  ]


def more_table(lines: list[Line]) -> list[list[str]]:
  """Heading and cells: the other figures, and how far images differ."""
  head = ["method", *MORE.values(), "mIoU of an image", "its std over images"]
  return [head] + [
      [line.row.name]
      + [measured(line, line.values(figure)) for figure in MORE]
      + [measured(line, list(values)) for values in (
          zip(*line.values("image_miou"), strict=True)
          if line.values("image_miou") else ((), ())
      )] for line in lines
  ]


def class_names(lines: list[Line]) -> list[str]:
  return list(dict.fromkeys(
      name for line in lines for record in line.records.values() if record
      for name in record.class_iou
  ))


def class_table(lines: list[Line], figure: str) -> list[list[str]]:
  """Heading and cells: a figure of each class, mean and spread, by method.

  Args:
    lines: of the suite.
    figure: field of a record, `class_iou` or `class_dice`.
  """
  names = class_names(lines)
  return [["method", *names]] + [
      [line.row.name,
       *(measured(line, line.values(figure, name)) for name in names)]
      for line in lines
  ]


def numbers(lines: list[Line]) -> list[list]:
  """Every record's figures unrounded, a line each; missing ones are empty."""
  names = class_names(lines)
  head = ["method", "run", "seed", "state", "scheme", "key_plan", *FIGURES,
          *(f"iou {name}" for name in names), "images", "pixels",
          "checkpoint_sha256", "miou low", "miou high", "image miou",
          "image miou std", *MORE, *(f"boundary iou {name}" for name in names),
          *(f"dice {name}" for name in names)]
  rows = [head]
  for line in lines:
    for seed, record in line.records.items():
      start = [line.row.name, line.run.name, seed]
      if not record:
        rows.append([*start, line.why[seed]] + [""] * (len(head) - 4))
        continue
      protocol = record.protocol
      rows.append([
          *start, "done", protocol["scheme"], protocol["key_plan"],
          *(getattr(record, figure) for figure in FIGURES),
          *(record.class_iou.get(name) for name in names),
          record.images, record.pixels, protocol["checkpoint_sha256"],
          *(record.miou_interval or ("", "")), *(record.image_miou or ("", "")),
          *(getattr(record, figure) for figure in MORE),
          *(record.class_boundary_iou.get(name) for name in names),
          *(record.class_dice.get(name) for name in names),
      ])
  return rows


def summary(lines: list[Line]) -> list[list]:
  """The main table with unrounded fractions, for CSV."""
  head = ["method", "who shares what", "what leaks", "seeds done",
          "seeds wanted"]
  head += [f"{name} {part}" for name in FIGURES for part in ("mean", "std")]
  rows = [head]
  for line in lines:
    row = [line.row.name, line.row.shares, line.leaks, *line.count()]
    for figure in FIGURES:
      values = line.values(figure)
      row.append(statistics.mean(values) if values else "")
      row.append(statistics.stdev(values) if len(values) > 1 else "")
    rows.append(row)
  return rows


def as_csv(table: list[list]) -> str:
  text = io.StringIO()
  csv.writer(text, lineterminator="\n").writerows(table)
  return text.getvalue()


def as_markdown(table: list[list[str]]) -> str:
  escaped = [[cell.replace("|", "\\|") for cell in row] for row in table]
  escaped.insert(1, ["---"] * len(table[0]))
  return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


_TEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}"} | {c: f"\\{c}" for c in "&%$#_{}"}


def as_latex(table: list[list[str]]) -> str:
  """A booktabs tabular; text columns wrap."""
  def tex(cell):
    return "".join(_TEX.get(c, c) for c in cell)

  texts = sum(cell in ("method", "who shares what", "what leaks")
              for cell in table[0])
  columns = "p{3.5cm}" * texts + "r" * (len(table[0]) - texts)
  head, *body = (" & ".join(map(tex, row)) + r" \\" for row in table)
  return "\n".join([
      f"\\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule",
      *body, r"\bottomrule", r"\end{tabular}", "",
  ])


def write(
    runs: list[Run], jobs: list[Job], folder: Path, title: str
) -> Path:
  """Writes the report; returns the path of its page.

  `table` (Markdown, CSV, LaTeX): mean and sample standard deviation over seeds;
  `table_more`: likewise other figures than are usual; `classes`: likewise the
  IoU of each class, `classes_dice`: its Dice; `records.csv`: every record on
  its own; `figure.png`: input, encrypted, ground truth and maps; `curves.svg`:
  training; `index.html`: all of it in one file. What was not run is shown as
  missing.

  Args:
    runs: of the suite.
    jobs: all of them, run or not.
    folder: to write to.
    title: of the page.
  """
  lines = collect(runs, jobs)
  folder.mkdir(parents=True, exist_ok=True)

  def put(name: str, text: str) -> None:
    files.write_text(folder / name, text)

  for name, table, exact in (
      ("table", main_table(lines), summary(lines)),
      ("table_more", more_table(lines), None),
      ("classes", class_table(lines, "class_iou"), None),
      ("classes_dice", class_table(lines, "class_dice"), None),
  ):
    put(f"{name}.md", as_markdown(table))
    put(f"{name}.tex", as_latex(table))
    put(f"{name}.csv", as_csv(exact or table))
  put("records.csv", as_csv(numbers(lines)))
  samples = figures.samples(lines)
  figures.write_sheet(samples, folder / "figure.png")
  curves = figures.curves(lines)
  put("curves.svg", curves)
  put("index.html", page.render(
      title=title, table=main_table(lines), more=more_table(lines),
      classes=class_table(lines, "class_iou"), samples=samples, curves=curves,
      lines=lines,
  ))
  return folder / "index.html"
