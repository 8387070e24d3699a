"""What is run, what is skipped, and what a failure or a stop leaves."""

import shutil
import signal
import threading

import pytest

from ppseg_jax import command
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import report, runner, suite
from ppseg_jax.runs import workdir
from tests.experiments.helpers import Main, record_of
from tests.helpers import call


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
