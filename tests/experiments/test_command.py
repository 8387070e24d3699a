"""The command line, and its run measured again."""

import functools
import json
import shutil

import numpy as np
import pytest

from ppseg_jax import verify
from ppseg_jax.data.labels import CITYSCAPES
from ppseg_jax.experiments import __main__, runner
from ppseg_jax.runs import workdir
from tests.experiments.helpers import SUITE
from tests.helpers import ROOT, call, run_main


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


@pytest.fixture(scope="module")
def real(tmp_path_factory, mini_file):
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
