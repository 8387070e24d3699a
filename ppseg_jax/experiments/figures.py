"""Pictures of a report, made of what the runs left."""

import dataclasses
import io
import json
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from ppseg_jax import evaluate, viz
from ppseg_jax.errors import UserError
from ppseg_jax.experiments.records import Line
from ppseg_jax.runs.workdir import Workdir

_IMAGES = 3  # samples shown
_WIDTH = 256  # pixels of a picture, at most
GREY = "#808080"  # readable on black and on white


@dataclasses.dataclass(frozen=True)
class Sample:
  """An image of the held-out split and what became of it.

  Attributes:
    plain: uint8 [h, w, 3]; white where no run had more than its clients sent.
    truth: ground truth in colours, likewise.
    methods: name of a row -> (what the cloud saw, its map), likewise.
  """

  plain: np.ndarray
  truth: np.ndarray
  methods: dict[str, tuple[np.ndarray, np.ndarray]]


def samples(lines: list[Line]) -> list[Sample]:
  """The first images of the split that some line has panels of.

  A line's pictures are those of its first seed that has a record.
  """
  found = []
  for index in range(_IMAGES):
    plain = truth = None
    methods = {}
    for line in lines:
      pictures = _panel(line, index)
      if pictures is None:
        continue
      *input_, seen, truth, map_ = pictures
      if plain is None and input_:
        (plain,) = input_
      methods[line.row.name] = (seen, map_)
    if methods:
      if plain is None:
        plain = np.full_like(truth, 255)
      found.append(Sample(plain, truth, methods))
  return found


def _panel(line: Line, index: int) -> list[np.ndarray] | None:
  """Plain, encrypted, ground truth and prediction, uint8 [h, w, 3] each.

  Without the first, where the run did not have it.
  """
  for job in line.jobs:
    path = job.files(line.row)[1] / f"{index:04d}.png"
    if line.records[job.seed] and path.exists():
      config = job.config(line.row)
      plain = evaluate.shows_plain(config)
      count = 4 if plain else 3
      with Image.open(path) as sheet:
        pictures = viz.split_panel(
            sheet, config.data.height, config.data.width
        )
      if len(pictures) < count:
        raise UserError(f"{path} is not a panel of {count} pictures.")
      return [
          _small(picture, smooth=plain and place == 0)
          for place, picture in enumerate(pictures[:count])
      ]
  return None


def _small(picture: np.ndarray, smooth: bool) -> np.ndarray:
  height, width = picture.shape[:2]
  if width <= _WIDTH:
    return picture
  how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
  size = (_WIDTH, round(height * _WIDTH / width))
  return np.asarray(Image.fromarray(picture).resize(size, how))


def write_sheet(samples: list[Sample], path: Path) -> None:
  """All samples on one sheet: a line a method, two columns a sample."""
  if not samples:
    path.unlink(missing_ok=True)
    return
  height, width = samples[0].plain.shape[:2]
  factor = max(1, _WIDTH // width)
  height, width = height * factor, width * factor
  gap, title = 4, 18
  names = list(dict.fromkeys(name for s in samples for name in s.methods))
  lines = [("input and ground truth", [(s.plain, s.truth) for s in samples])]
  lines += [(name, [s.methods.get(name) for s in samples]) for name in names]
  sheet = Image.new("RGB", (
      2 * len(samples) * (width + gap), len(lines) * (height + title + gap)
  ), "white")
  draw = ImageDraw.Draw(sheet)
  font = ImageFont.load_default(13)
  for row, (name, pairs) in enumerate(lines):
    top = row * (height + title + gap)
    what = "" if row == 0 else ": encrypted and map"
    draw.text((2, top + 1), name + what, fill="black", font=font)
    for column, pair in enumerate(pairs):
      for place, picture in enumerate(pair or ()):
        left = (2 * column + place) * (width + gap)
        large = picture.repeat(factor, 0).repeat(factor, 1)
        sheet.paste(Image.fromarray(large), (left, top + title))
  viz.save_png(path, sheet)


def read_metrics(path: Path) -> list[dict]:
  """The records of a `metrics.jsonl`; a line cut short ends it."""
  records = []
  if path.exists():
    for line in path.read_text().splitlines():
      try:
        records.append(json.loads(line))
      except ValueError:
        break
  return records


def curves(lines: list[Line]) -> str:
  """Loss and mIoU by step of every run that has begun, as SVG.

  Thin lines are single seeds, the thick one is their mean at the steps that all
  have.
  """
  figure = Figure(figsize=(8, 7), layout="constrained")
  axes = figure.subplots(2, 1, sharex=True)
  runs = {line.run.name: line.jobs for line in lines}
  paths = {
      name: [read_metrics(Workdir(job.folder).metrics) for job in jobs]
      for name, jobs in runs.items()
  }
  for axis, field, title in zip(
      axes, ("loss", "miou"), ("training loss", "mIoU, held-out split"),
      strict=True,
  ):
    for place, (name, records) in enumerate(paths.items()):
      _plot(axis, name, place, [
          {r["step"]: r[field] for r in seed if field in r} for seed in records
      ])
    axis.set_ylabel(title, color=GREY)
    plain_axis(axis)
  axes[-1].set_xlabel("step", color=GREY)
  figure.legend(
      *axes[0].get_legend_handles_labels(), loc="outside lower center",
      ncols=3, frameon=False, labelcolor=GREY, fontsize="small",
  )
  return as_svg(figure)


def plain_axis(axis: Axes) -> None:
  """Readable on black and on white."""
  axis.tick_params(colors=GREY)
  axis.grid(color=GREY, alpha=0.3)
  axis.set_facecolor("none")
  for spine in axis.spines.values():
    spine.set_color(GREY)


def as_svg(figure: Figure) -> str:
  """The figure on no ground; the same figure gives the same text."""
  text = io.StringIO()
  # Without a date the same records give the same file.
  with matplotlib.rc_context({"svg.hashsalt": "ppseg_jax"}):
    figure.savefig(
        text, format="svg", transparent=True, metadata={"Date": None}
    )
  return text.getvalue()


def _plot(
    axis: Axes, name: str, place: int, curves: list[dict[int, float]]
) -> None:
  """Draws a run's curves, value by step, one a seed, and their mean."""
  curves = [curve for curve in curves if curve]
  if not curves:
    return
  look = {"color": f"C{place % 10}", "ls": ("-", "--", ":")[place // 10 % 3]}
  for curve in curves:
    axis.plot(*zip(*curve.items(), strict=True), lw=0.5, alpha=0.5, **look)
  common = sorted(set.intersection(*map(set, curves)))
  mean = [np.mean([curve[step] for curve in curves]) for step in common]
  axis.plot(common, mean, label=name, marker="." if len(common) == 1 else "",
            **look)
