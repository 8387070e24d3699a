"""The report is the records."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest

from ppseg_jax import viz
from ppseg_jax.experiments import (
    Row,
    figures,
    records,
    report,
    runner,
    suite,
)
from tests.experiments.helpers import Main
from tests.helpers import photo


def written(runs, jobs, folder):
  page = report.write(runs, jobs, folder, "suite.py:<plain>")
  return page.read_text(), {
      path.name: path.read_text() for path in folder.iterdir()
      if path.suffix in (".md", ".csv", ".tex", ".svg")
  }


def test_numbers_of_the_report_are_those_of_the_records(runs, tmp_path):
  jobs = suite.jobs(runs, tmp_path / "w")
  runner.run_jobs(jobs, execute=Main(jobs))
  page, files = written(runs, jobs, tmp_path / "report")
  table = {row["method"]: row
           for row in csv.DictReader(files["table.csv"].splitlines())}
  each = list(csv.DictReader(files["records.csv"].splitlines()))
  for method, record in (("ours", "result"),
                         ("plain | on_blockwise", "eval_blockwise")):
    folder = "ours" if method == "ours" else "plain"
    stored = [
        json.loads((tmp_path / "w" / f"{folder}-{s}" / f"{record}.json")
                   .read_text()) for s in (0, 1)
    ]
    for figure in ("miou", "pixel_accuracy", "mean_accuracy"):
      values = [r[figure] for r in stored]
      mean, std = np.mean(values), np.std(values, ddof=1)
      assert float(table[method][f"{figure} mean"]) == pytest.approx(mean)
      assert float(table[method][f"{figure} std"]) == pytest.approx(std)
      shown = f"{100 * mean:.1f} ± {100 * std:.1f} (2)"
      assert shown in page and shown in files["table.md"]
      assert shown.replace("±", r"$\pm$") in files["table.tex"]
    rows = [row for row in each if row["method"] == method]
    assert [float(row["iou car"]) for row in rows] == [
        r["class_iou"]["car"] for r in stored
    ]
    assert all(row["iou pole"] == row["dice pole"] == "" for row in rows)
    assert [float(row["dice car"]) for row in rows] == [
        r["class_dice"]["car"] for r in stored
    ]
    cars = [r["class_dice"]["car"] for r in stored]
    shown = f"{100 * np.mean(cars):.1f} ± {100 * np.std(cars, ddof=1):.1f} (2)"
    assert shown in files["classes_dice.md"]
    more = next(line for line in files["table_more.md"].splitlines()
                if method.replace("|", "\\|") in line)
    dice = [r["mean_dice"] for r in stored]
    assert (f"| {100 * np.mean(dice):.1f} ± {100 * np.std(dice, ddof=1):.1f}"
            " (2) | - |") in more  # of boundaries nothing was counted
    assert [[float(row["miou low"]), float(row["miou high"])]
            for row in rows] == [r["miou_interval"] for r in stored]
  assert "missing" not in files["table.md"] + files["classes.md"]
  # The leak is that of the scheme that was tested.
  assert "histogram of each channel" in table["plain | on_blockwise"][
      "what leaks"]
  assert table["plain"]["what leaks"] == "The image."
  assert "many pictures" in table["adapted"]["what leaks"]
  assert "many pictures" not in table["ours"]["what leaks"]
  assert r"plain \| on\_blockwise" not in files["table.tex"]
  assert r"plain \| on_blockwise" in files["table.md"]
  assert r"plain | on\_blockwise" in files["table.tex"]


def test_what_was_not_run_is_shown_as_missing(runs, tmp_path):
  jobs = suite.jobs(runs, tmp_path / "w")
  page, files = written(runs, jobs, tmp_path / "empty")
  assert files["table.md"].count("missing") == 5 * 3
  assert not re.search(r"\d\.\d", files["table.md"])
  assert "10 missing" in page and "ours, seed 1: not run" in page

  runner.run_jobs([job for job in jobs if job.name != "ours-1"],
                  execute=Main(jobs))
  page, files = written(runs, jobs, tmp_path / "part")
  ours = next(line for line in files["table.md"].splitlines()
              if line.startswith("| ours"))
  assert ours.count("(1 of 2)") == 3 and "±" not in ours
  assert "1 missing" in page and "missing" not in files["table.md"]
  rows = csv.reader(files["records.csv"].splitlines())
  row = next(row for row in rows if row[:3] == ["ours", "ours", "1"])
  assert row[3] == "not run" and not any(row[4:])


def test_the_page_needs_nothing_but_itself(runs, tmp_path):
  jobs = suite.jobs(runs, tmp_path / "w")
  runner.run_jobs(jobs, execute=Main(jobs))
  page, _ = written(runs, jobs, tmp_path / "report")
  sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
  # Input and ground truth, two pictures for each of five rows, the curves.
  assert len(sources) == 2 + 2 * 5 + 1
  assert all(source.startswith("data:image/") for source in sources)
  assert "url(" not in page and "<script" not in page
  assert "suite.py:&lt;plain&gt;" in page and "viewport" in page
  assert "python -m ppseg_jax.main --config=configs/setr_enc.py" in page
  before = page
  assert written(runs, jobs, tmp_path / "report")[0] == before
  assert (tmp_path / "report" / "figure.png").stat().st_size > 1000


def test_a_run_that_never_had_the_plain_images_is_shown_without_them(
    runs, tmp_path
):
  ours = next(run for run in runs if run.name == "ours")
  noisy = dataclasses.replace(ours, name="noisy", rows=(Row("noisy", "-"),),
                              fields=ours.fields | {"private.pixels": 4,
                                                    "private.epsilon": 1.0})
  runs = [noisy, ours]
  jobs = suite.jobs(runs, tmp_path / "w")
  runner.run_jobs(jobs, execute=Main(jobs))
  pictures = {c: photo(32, 48, i) for i, c in enumerate("abc")}
  for job in jobs:
    if job.run is noisy:
      path = job.files()[1] / "0000.png"
      viz.save_png(path, viz.panel(pictures))
  lines = records.collect(runs, jobs)
  (sample,) = figures.samples(lines)
  assert [x.shape for x in sample.methods["noisy"]] == [(32, 48, 3)] * 2
  np.testing.assert_array_equal(sample.methods["noisy"][1], pictures["c"])
  np.testing.assert_array_equal(sample.plain, photo(32, 48, 0))  # of ours
  (alone,) = figures.samples(lines[:1])
  assert (alone.plain == 255).all()
  np.testing.assert_array_equal(alone.truth, pictures["b"])


def test_a_panel_is_cut_into_the_pictures_it_was_made_of():
  for height, width in ((32, 48), (300, 200)):
    pictures = [photo(height, width, seed) for seed in range(4)]
    sheet = viz.panel(dict(zip("abcd", pictures, strict=True)))
    again = viz.split_panel(sheet, height, width)
    np.testing.assert_array_equal(again, pictures)
