"""Suites: what is run, what is skipped, and that the report is the records."""

import csv
import dataclasses
import functools
import json
import re
import shutil
import signal
import subprocess
import threading

import numpy as np
import pytest

from ppseg_jax import command, metrics, verify, viz
from ppseg_jax.data.labels import CITYSCAPES
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import (
    Row,
    Run,
    __main__,
    frontier,
    report,
    runner,
    suite,
)
from ppseg_jax.experiments.records import collect
from ppseg_jax.runs import workdir
from ppseg_jax.runs.record import Record, read
from tests.helpers import ROOT, call, photo, run_main

TINY = {
    "steps": 2, "batch_size": 4, "log_every": 1, "checkpoint_every": 2,
    "eval.every": 2, "data.height": 32, "data.width": 48,
    "data.train_images": 8, "data.val_images": 4, "panels": 1,
}
SUITE = f"""
from ppseg_jax.experiments import Row, Run

def get_suite(argument="plain"):
  fields = {TINY!r}
  return [
      Run("plain", "configs/setr_plain.py", (
          Row("plain", "the images"),
          Row("plain | on_blockwise", "nothing", {{"scheme": "blockwise"}}),
          Row("adapted", "a key", {{"scheme": "independent",
              "key_plan": "shared", "adapt": True}}),
      ), fields, seeds=(0, 1)),
      Run("ours", "configs/setr_enc.py", (Row("ours", "nothing"),), fields,
          seeds=(0, 1)),
      Run("tuned", "configs/setr_paper.py", (Row("tuned", "a key"),), fields,
          seeds=(0, 1), after="plain"),
  ]
"""


@pytest.fixture
def runs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # what comes along is found from any folder
  path = tmp_path / "suite.py"
  path.write_text(SUITE)
  return suite.load(str(path))


def record_of(seed, key):
  """A record like those of `train`, with random counts."""
  rng = np.random.default_rng(seed)
  matrix = rng.integers(0, 100, (19, 19))
  matrix[5], matrix[:, 5] = 0, 0  # a class that does not occur
  return {
      **metrics.summarise(matrix, CITYSCAPES.names), "images": 4,
      **metrics.spread(rng.integers(1, 9, (4, 2, 19)).cumsum(1)),
      "pixels": int(matrix.sum()), "confusion": matrix.tolist(),
      "protocol": {"checkpoint_sha256": key, "scheme": "s", "key_plan": "p"},
      "versions": {"jax": "0"},
  }


class Main:
  """Does in place of `ppseg_jax.main` what it leaves behind."""

  def __init__(self, jobs, failing=()):
    self.by_folder = {str(job.folder): job for job in jobs}
    self.failing, self.calls = failing, []

  def __call__(self, command, log):
    flags = dict(word[2:].split("=", 1) for word in command)
    job = self.by_folder[flags["workdir"]]
    self.calls.append((job.name, flags.get("mode", "train")))
    job.folder.mkdir(parents=True, exist_ok=True)
    log.write_text(f"step 1\nerror: {job.name} broke\n")
    if job.name in self.failing:
      return 1
    row = None
    if "mode" in flags:
      row = next(r for r in job.run.rows if job.command(r) == command)
    workdir.write_json(job.folder / "config.json", job.config().to_dict())
    workdir.write_json(
        job.files(row)[0], record_of(len(self.calls), job.name)
        | {"config": job.config(row).to_dict()},
    )
    (job.folder / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 3.0}\n{"step": 2, "miou": 0.1}\n{"st'
    )
    picture = photo(32, 48, job.seed)
    viz.save_png(
        job.files(row)[1] / "0000.png",
        viz.panel(dict.fromkeys("abcd", picture)),
    )
    return 0


def test_every_step_is_run_once_and_what_is_done_is_skipped(runs, tmp_path):
  jobs = suite.jobs(runs, tmp_path / "w")
  main = Main(jobs)
  assert runner.run_jobs(jobs, execute=main) == []
  assert main.calls == [
      (f"{name}-{seed}", mode) for seed in (0, 1) for name, mode in
      (("plain", "train"), ("plain", "eval"), ("plain", "eval"),
       ("ours", "train"), ("tuned", "train"))
  ]
  again = Main(jobs)
  assert runner.run_jobs(jobs, execute=again) == [] and not again.calls

  # What was lost, or measured on another checkpoint, is done again.
  shutil.rmtree(tmp_path / "w" / "ours-1")
  (tmp_path / "w" / "tuned-0" / "result.json").unlink()
  test = tmp_path / "w" / "plain-0" / "eval_blockwise.json"
  workdir.write_json(test, record_of(0, "other checkpoint"))
  assert runner.run_jobs(jobs, execute=again) == []
  assert again.calls == [("plain-0", "eval"), ("tuned-0", "train"),
                         ("ours-1", "train")]


def test_a_test_of_another_protocol_is_done_again(runs, tmp_path):
  jobs = suite.jobs(runs, tmp_path / "w")
  runner.run_jobs(jobs, execute=Main(jobs))
  path = tmp_path / "w" / "plain-0" / "eval_blockwise.json"
  record = workdir.read_json(path)
  record["config"]["eval"]["windows"] = 7
  workdir.write_json(path, record)
  again = Main(jobs)
  assert runner.run_jobs(jobs, execute=again) == []
  assert again.calls == [("plain-0", "eval")]


def test_two_rows_that_write_the_same_record_are_refused(runs, tmp_path):
  rows = (Row("one", "-", {"windows": 2}), Row("two", "-", {"windows": 3}))
  run = Run("plain", "configs/setr_plain.py", rows, TINY)
  with pytest.raises(UserError, match="let their tests differ"):
    suite.jobs([run], tmp_path)


def test_a_failing_run_does_not_stop_the_others_and_is_named(runs, tmp_path):
  jobs = suite.jobs(runs, tmp_path / "w")
  main = Main(jobs, failing=("plain-0",))
  failures = runner.run_jobs(jobs, execute=main)
  assert len(failures) == 2
  assert "plain-0" in failures[0] and "plain-0 broke" in failures[0]
  assert "tuned-0" in failures[1] and "plain-0, which is not" in failures[1]
  assert ("plain-0", "eval") not in main.calls
  assert ("tuned-1", "train") in main.calls


def test_a_run_of_another_config_is_refused_before_anything_runs(
    runs, tmp_path
):
  jobs = suite.jobs(runs, tmp_path / "w")
  last = jobs[-1]
  last.folder.mkdir(parents=True)
  config = last.config()
  config.steps = 7
  workdir.write_json(last.folder / "config.json", config.to_dict())
  main = Main(jobs)
  with pytest.raises(UserError, match="tuned-1.*steps is 7 there and 2 now"):
    runner.run_jobs(jobs, execute=main)
  assert not main.calls
  # Nor does the report take its figures for the suite's.
  workdir.write_json(last.folder / "result.json", record_of(1, "x"))
  line = report.collect(runs, jobs)[-1]
  assert line.records == {0: None, 1: None}
  assert line.why == {0: "not run", 1: "of another config"}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_parts_cover_every_job_once_and_keep_chains_together(
    runs, count, tmp_path
):
  jobs = suite.jobs(runs, tmp_path, seeds=(0, 1, 2))
  parts = [suite.part(jobs, i, count) for i in range(1, count + 1)]
  names = [job.name for part in parts for job in part]
  assert sorted(names) == sorted(job.name for job in jobs)
  for part in parts:
    inside = [job.name for job in part]
    for job in part:
      if job.run.after:
        before = inside.index(f"{job.run.after}-{job.seed}")
        assert before < inside.index(job.name)
  assert max(map(len, parts)) < len(jobs) or count == 1


def test_only_takes_a_run_a_seed_of_it_or_a_row(runs, tmp_path):
  jobs = suite.jobs(runs, tmp_path)

  def names(*only):
    chosen, rows = runner.select(jobs, list(only))
    return [job.name for job in chosen], rows

  assert names("ours") == (["ours-0", "ours-1"], {"ours"})
  assert names("plain-1")[0] == ["plain-1"]
  assert names("plain | on_blockwise") == (
      ["plain-0", "plain-1"], {"plain | on_blockwise"}
  )
  with pytest.raises(UserError, match="'nosuch'.*plain, ours, tuned"):
    names("nosuch")


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
    assert all(row["iou pole"] == "" for row in rows)
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


def test_a_panel_is_cut_into_the_pictures_it_was_made_of():
  for height, width in ((32, 48), (300, 200)):
    pictures = [photo(height, width, seed) for seed in range(4)]
    sheet = viz.panel(dict(zip("abcd", pictures, strict=True)))
    again = viz.split_panel(sheet, height, width)
    np.testing.assert_array_equal(again, pictures)


@pytest.mark.parametrize("arguments, parts", [
    (["--workdir=w"], ["--suite"]),
    (["--suite=none.py", "--workdir=w"], ["none.py"]),
    (["--suite=configs/suites/paper.py:mars", "--workdir=w"],
     ["mars", "camvid"]),
    (["--suite=configs/setr_enc.py", "--workdir=w"], ["get_suite"]),
    (["--suite=configs/suites/paper.py", "--workdir=w", "--part=3/2"],
     ["3/2"]),
    (["--suite=configs/suites/paper.py", "--workdir=w", "--seeds=a"],
     ["--seeds=a"]),
    (["--suite=configs/suites/paper.py", "--workdir=w", "--dance"],
     ["--dance"]),
    (["--suite=configs/suites/paper.py", "--workdir=w", "--only=nosuch"],
     ["nosuch"]),
])
def test_bad_input_gets_one_sentence(arguments, parts):
  done = call(__main__.main, *arguments)
  assert done.returncode == 2 and done.stderr.count("\n") == 1
  assert all(part in done.stderr for part in parts)


@pytest.mark.parametrize("fields, part", [
    ({"nosuch": 1}, "nosuch"), ({"model.nosuch": 1}, "model.nosuch"),
    ({"steps": 0}, "plain-0: steps=0"),
])
def test_a_wrong_field_of_a_suite_is_named(fields, part, tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  run = Run("plain", "configs/setr_plain.py", (Row("plain", ""),), fields)
  with pytest.raises(UserError, match=part):
    suite.jobs([run], tmp_path)[0].config()


@pytest.mark.parametrize("scale", ["demo", "camvid", "cityscapes"])
def test_every_config_of_the_paper_suite_can_work(scale, tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  runs = suite.load(f"configs/suites/paper.py:{scale}")
  for job in suite.jobs(runs, tmp_path):
    for row in (None, *job.run.rows):
      job.config(row)  # raises where it cannot
    records = [job.files(row)[0] for row in job.run.rows]
    assert len(set(records)) == len(records)
  # A model for each way of keys, and every shared key tested without it.
  names = {row.name for run in runs for row in run.rows}
  assert names >= {
      "plain SETR", "plain SETR, tested on encrypted images", "kiya2022",
      "sueyoshi2025", "independent, a key an image",
      "independent, trained at home under fresh keys",
      "blockwise, canonical form (ours)",
      "blockwise_value, canonical form (ours)",
      "blockwise, layout hidden (ours)",
  }
  for run in runs:
    if run.fields.get("key_plan") == "shared":
      assert any(row.test == {"key_plan": "image"} for row in run.rows)


@pytest.mark.parametrize("name", ["knobs", "refined"])
@pytest.mark.parametrize("scale", ["demo", "camvid"])
def test_suites_that_go_on_from_the_papers_can_share_its_folder(
    name, scale, tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  paper = suite.jobs(suite.load(f"configs/suites/paper.py:{scale}"), tmp_path)
  more = suite.jobs(suite.load(f"configs/suites/{name}.py:{scale}"), tmp_path)
  commands = {job.name: job.command() for job in more}
  assert {job.name: job.command() for job in paper}.items() <= commands.items()
  for job in more:
    for row in (None, *job.run.rows):
      job.config(row)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
  """One run of the suite, and its test, done by the command line."""
  folder = tmp_path_factory.mktemp("real")
  (folder / "suite.py").write_text(SUITE)

  def execute(command, log):  # without a process for each step
    done = run_main(*command)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(done.stdout + done.stderr)
    return done.returncode

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(runner, "run_jobs",
                  functools.partial(runner.run_jobs, execute=execute))
    done = call(__main__.main, f"--suite={folder / 'suite.py'}",
                f"--workdir={folder / 'w'}", "--only=plain-0")
  assert done.returncode == 0, done.stderr + done.stdout
  return folder / "w", done.stdout


def test_the_command_trains_tests_and_reports(real, monkeypatch):
  monkeypatch.chdir(ROOT)
  folder, printed = real
  assert "[1/1] plain-0: training took" in printed
  assert "test 'plain | on_blockwise' took" in printed
  assert printed.splitlines()[-1] == f"report: {folder}/report/index.html"
  record = json.loads((folder / "plain-0" / "eval_blockwise.json").read_text())
  table = (folder / "report" / "table.md").read_text()
  low, high = record["miou_interval"]
  assert low <= record["miou"] <= high
  assert (f"{100 * record['miou']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
          " (1 of 2)") in table
  assert "missing" in table  # of the run that was not asked for

  # The plain model, transformed by the key, on images under that key.
  plain = json.loads((folder / "plain-0" / "result.json").read_text())
  name = "eval_independent_shared_adapted.json"
  adapted = json.loads((folder / "plain-0" / name).read_text())
  moved = np.subtract(adapted["confusion"], plain["confusion"])
  assert np.abs(moved).sum() <= 0.01 * plain["pixels"]
  other = np.subtract(record["confusion"], plain["confusion"])
  assert np.abs(other).sum() > 0.01 * plain["pixels"]


def test_verify_finds_stored_figures_equal(real, capsys):
  folder, _ = real
  assert verify.verify(folder / "plain-0")
  printed = capsys.readouterr().out
  assert "result.json: equal" in printed
  assert "eval_blockwise.json: equal" in printed
  assert "eval_independent_shared_adapted.json: equal" in printed


def test_verify_detects_a_tampered_confusion_matrix(real, tmp_path, capsys):
  folder = tmp_path / "copy"
  shutil.copytree(real[0] / "plain-0", folder)
  for path in folder.glob("eval_*.json"):
    path.unlink()
  path = folder / "result.json"
  record = json.loads(path.read_text())
  matrix = np.array(record["confusion"])
  label, seen = np.argwhere(matrix > 5)[0]
  matrix[label, seen] -= 5
  matrix[label, (seen + 1) % 19] += 5
  record["confusion"] = matrix.tolist()
  workdir.write_json(path, record)
  assert not verify.verify(folder)
  printed = capsys.readouterr().out
  assert "result.json: DIFFERS" in printed
  name, count = CITYSCAPES.names[label], matrix[label].sum()
  assert f"{name}: 5 of {count} pixels are predicted otherwise" in printed
  assert "pixel_accuracy" in printed or "class_iou" in printed


def test_verify_compares_protocol_labels_and_figures():
  one = Record(**record_of(0, "a"))
  assert verify.compare(one, one) == []
  assert verify.compare(one, Record(**record_of(0, "b"))) == [
      "protocol: checkpoint_sha256 was a and is b"
  ]
  confusion = [list(row) for row in one.confusion]
  confusion[0][0] += 3
  changed = functools.partial(dataclasses.replace, one)
  lines = verify.compare(one, changed(confusion=confusion))
  assert len(lines) == 1 and lines[0].startswith("road: ")
  lines = verify.compare(changed(miou=0.9), one)
  assert len(lines) == 1 and lines[0].startswith("miou: 0.9 is stored")
  lines = verify.compare(one, changed(miou_interval=[0.1, 0.2]))
  assert len(lines) == 1 and "[0.1, 0.2] measured" in lines[0]
  wide = changed(boundary_iou=0.5, class_boundary_iou={"road": 0.5})
  assert len(verify.compare(wide, one)) == 2
  assert verify.compare(one, wide) == []  # of what was not stored


def test_a_record_without_the_later_figures_is_read(tmp_path):
  full = record_of(0, "a")
  later = ("frequency_weighted_iou", "mean_dice", "class_dice",
           "miou_interval", "image_miou")
  workdir.write_json(tmp_path / "old.json", {
      name: value for name, value in full.items() if name not in later
  })
  found = read(tmp_path / "old.json")
  assert found == dataclasses.replace(
      Record(**full), miou_interval=None, image_miou=None
  )
  for value in ({"miou": 0.5}, [1], {"confusion": [[1], [2, 3]],
                                     "class_iou": {"a": 1.0}}):
    (tmp_path / "other.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"other\.json is no record"):
      read(tmp_path / "other.json")


def test_verify_needs_a_finished_run(tmp_path):
  with pytest.raises(UserError, match=r"no result\.json"):
    verify.verify(tmp_path)


def test_a_run_in_progress_is_told_to_save_when_its_suite_is_stopped(
    tmp_path, monkeypatch
):
  """SIGTERM reaches the run, once, and the suite waits for its end."""
  main = tmp_path / "ppseg_jax" / "main.py"  # in place of the real one
  main.parent.mkdir()
  main.write_text("""
import pathlib, signal, sys, time
def stop(*_):
  pathlib.Path("saved").write_text("all")
  sys.exit(143)
signal.signal(signal.SIGTERM, stop)
pathlib.Path("started").touch()
time.sleep(60)
""")
  monkeypatch.chdir(tmp_path)
  patience = threading.Event()

  def stop_when_started():
    while not (tmp_path / "started").exists() and not patience.wait(0.02):
      pass
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

  thread = threading.Thread(target=stop_when_started)

  def body():
    thread.start()
    return runner.execute([], tmp_path / "log")

  try:
    done = call(lambda _: command.run(body))
  finally:
    patience.set()
    thread.join()
  assert done.returncode == 143 and "goes on" in done.stderr
  assert (tmp_path / "saved").read_text() == "all"


ATTACKED = [{"block": 8} | row for row in [
    {"attack": "floor", "scheme": "", "keys": "", "ssim": 0.3, "edge": 0.1},
    {"attack": "ceiling", "scheme": "", "keys": "", "ssim": 1.0, "edge": 1.0},
    {"attack": "mosaic", "scheme": "blockwise", "keys": "image", "ssim": 0.6,
     "edge": 0.2},
    {"attack": "likeliest", "scheme": "blockwise", "keys": "image",
     "ssim": 0.5, "edge": 0.4},
    {"attack": "known_plaintext", "scheme": "blockwise", "keys": "shared",
     "ssim": 0.9, "edge": 0.9},
    {"attack": "jigsaw", "scheme": "blockwise", "keys": "image", "ssim": None,
     "edge": None},
    {"attack": "correlation", "scheme": "independent", "keys": "image",
     "ssim": 0.9, "edge": 0.8},
]]


def test_the_frontier_takes_the_best_attack_on_each_scheme(runs, tmp_path):
  jobs = suite.jobs(runs, tmp_path / "w")
  runner.run_jobs(jobs, execute=Main(jobs))
  lines = collect(runs, jobs)
  points = {p.line.row.name: p for p in frontier.join(lines, ATTACKED)}
  assert points["ours"].best == {
      "ssim": (0.6, "mosaic"), "edge": (0.4, "likeliest")
  }
  assert points["tuned"].scheme == "independent"
  assert points["plain"].best["ssim"] == (1.0, "none needed")
  cells = frontier.table(list(points.values()), ATTACKED)
  assert all(len(row) == len(cells[0]) for row in cells)
  assert cells[-2][0] == "unrelated images" and cells[-2][-1] == "0.10"
  drawing = frontier.draw(list(points.values()), ATTACKED)
  assert drawing == frontier.draw(list(points.values()), ATTACKED)
  assert "best attack: SSIM" in drawing
  with pytest.raises(UserError, match="'blockwise' was not attacked"):
    frontier.join(lines, ATTACKED[:2] + ATTACKED[-1:])
  with pytest.raises(UserError, match="not attacked with blocks of 8"):
    frontier.join(lines, [row | {"block": 4} for row in ATTACKED])
  with pytest.raises(UserError, match="does not exist"):
    frontier.read_rows([tmp_path / "none.json"])


def test_attacks_of_several_runs_are_joined_if_they_are_of_the_same_images(
    tmp_path
):
  def write(name, block, images, rows=ATTACKED, **more):
    path = tmp_path / name
    path.write_text(json.dumps({"rows": rows, "config": {
        "block": block, "images": images, "others": 9,
        "data": {"dir": name}, **more}}))
    return path

  old = [{k: v for k, v in row.items() if k != "block"} for row in ATTACKED]
  one, two = write("one", 8, 3), write("two", 4, 3, old)
  rows = frontier.read_rows([one, two])
  assert [row["block"] for row in rows] == [8] * 7 + [4] * 5
  with pytest.raises(UserError, match="another 'images' than"):
    frontier.read_rows([one, write("three", 4, 2)])
  read = write("read", 4, 3, recognition={"workdir": "plain"})
  with pytest.raises(UserError, match="another 'recognition' than"):
    frontier.read_rows([one, read])
  (tmp_path / "bare").write_text(json.dumps({"rows": ATTACKED}))
  with pytest.raises(UserError, match="holds no rows of attacks"):
    frontier.read_rows([tmp_path / "bare"])


@pytest.mark.parametrize("array, code, said", [
    ({"ID": "2", "MIN": "1", "MAX": "8"}, 0,
     "--ntasks=1 python -m ppseg_jax.experiments --part=2/8 --suite=s.py:a b"),
    ({"ID": "0", "MIN": "0", "MAX": "7"}, 2, "it must begin at 1"),
    ({}, 2, "not an array job"),
])
def test_an_array_job_runs_its_part_of_the_suite(array, code, said, tmp_path):
  srun = tmp_path / "srun"
  srun.write_text('#!/bin/bash\necho "$@"\n')
  srun.chmod(0o755)
  done = subprocess.run(
      ["bash", ROOT / "launch" / "slurm_suite.sh", "--suite=s.py:a b"],
      capture_output=True, text=True,
      env={"PATH": f"{tmp_path}:/usr/bin:/bin"} | {
          f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()
      },
  )
  assert done.returncode == code
  assert said in done.stdout + done.stderr
