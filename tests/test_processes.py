"""Whole runs of several processes, for many minutes: pytest -m distributed."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from tests import steps
from tests.helpers import (
    ROOT,
    TINY,
    main_command,
    photo,
    run_main,
    write_camvid,
)
from tests.test_launch import SRUN, stand_in

pytestmark = pytest.mark.distributed

# Parameters and averages lie across the processes.
RUN = ("--config=configs/setr_enc.py", *TINY, "--config.steps=6",
       "--config.checkpoint_every=3", "--config.eval.every=100",
       "--config.panels=10", "--config.eval.boundary=False",
       "--config.model.stem=0", "--config.optim.ema=0.9",
       "--config.mesh.data=1", "--config.mesh.fsdp=8")


def launch(script, *args, **more):
  return subprocess.run(
      [ROOT / "launch" / script, *args], cwd=ROOT, text=True,
      env=steps.environment(4, **more), capture_output=True, timeout=900,
  )


def alone(*args):
  """One process with as many devices."""
  return subprocess.run(
      main_command(*args), cwd=ROOT, env=steps.environment(8), text=True,
      capture_output=True, timeout=900,
  )


def losses_of(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  return [(r["step"], r["loss"]) for r in records if "loss" in r]


def assert_alike(run, other):
  """Two runs, but for the rounding of sums."""
  np.testing.assert_allclose(losses_of(run), losses_of(other), rtol=2e-4)
  one, two = (json.loads((folder / "result.json").read_text())
              for folder in (run, other))
  assert one["pixels"] == two["pixels"]
  assert one["miou"] == pytest.approx(two["miou"], abs=2e-3)
  panels = [sorted(path.name for path in (folder / "panels").iterdir())
            for folder in (run, other)]
  assert panels[0] == panels[1] and panels[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run of one process."""
  folder = tmp_path_factory.mktemp("whole") / "run"
  done = alone(*RUN, f"--workdir={folder}")
  assert done.returncode == 0, done.stderr
  return folder


def start(*args):
  """The local launcher, and the ids of its processes once asked for."""
  process = subprocess.Popen(
      [ROOT / "launch" / "local.sh", *args], cwd=ROOT, env=steps.environment(4),
      text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
  )
  children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
  return process, lambda: [int(x) for x in children.read_text().split()]


def test_a_run_that_is_asked_to_stop_goes_on_elsewhere_and_ends_like_one(
    whole, tmp_path
):
  run = tmp_path / "run"

  # SIGTERM to one of them: both save the same step.
  process, children = start("2", "--", *RUN, f"--workdir={run}")
  with process:
    for line in process.stdout:
      if "2 processes, 8 x cpu" in line:
        os.kill(children()[1], signal.SIGTERM)
    said = process.stderr.read()
  assert process.returncode == 143, said
  (step,) = re.findall(r"stopped; the same command goes on at step (\d)", said)
  assert said.count("stopped") == 1

  # A newer checkpoint, but a damaged one: all go on at the one before.
  newer = run / "checkpoints" / str(int(step) + 1)
  shutil.copytree(run / "checkpoints" / step, newer)
  for path in (newer / "default").rglob("*"):
    if path.is_file() and path.name != "commit_success.txt":
      path.write_bytes(b"")

  # The rest, as SLURM starts it.
  srun = tmp_path / "bin" / "srun"
  srun.parent.mkdir()
  stand_in(srun, SRUN)
  done = launch("slurm.sh", *RUN, f"--workdir={run}", SLURM_JOB_ID="1",
                JAX_COORDINATOR_PORT=steps.free_port(),
                PATH=f"{srun.parent}:{os.environ['PATH']}")
  assert done.returncode == 0, done.stderr
  assert done.stderr.count(f"warning: checkpoint {newer.name}") == 1
  assert done.stderr.count("\n") == 1
  assert (run / f"damaged-checkpoint-{newer.name}").is_dir()
  for line in ("2 processes, 8 x cpu", f"resuming at step {step} of 6",
               "SETR demo", "step 6/6  loss", "done: "):
    assert done.stdout.count(line) == 1
  assert_alike(run, whole)


def test_a_killed_process_ends_the_rest_and_all_go_on_at_the_last_checkpoint(
    whole, tmp_path
):
  run = tmp_path / "run"
  process, children = start("--restarts=1", "2", "--", *RUN, "--heartbeat=10",
                            f"--workdir={run}")
  told = []
  with process:
    for line in process.stdout:
      told.append(line)
      if line.startswith("step 5/6  loss") and not any(
          "resuming" in line for line in told
      ):
        first, second = children()
        os.kill(second, signal.SIGKILL)
        killed = time.monotonic()
        while Path(f"/proc/{first}").exists():
          time.sleep(0.1)
        # The launcher would have ended it after 30 s.
        assert time.monotonic() - killed < 25
    said = process.stderr.read()
  assert process.returncode == 0, said
  assert "process 1 ended with exit code 137; all are started again." in said
  assert any("resuming at step 3 of 6" in line for line in told)
  assert_alike(run, whole)


def test_every_mode_of_two_processes_does_what_one_does_once(whole, tmp_path):
  run, other = tmp_path / "run", tmp_path / "other"
  shutil.copytree(whole, run)
  shutil.copytree(whole, other)
  refine = ("--mode=refine", "--config.refine.steps=2",
            "--config.refine.filter_images=8", "--config.refine.radii=(2,)",
            "--config.refine.eps=(0.01,)")
  Image.fromarray(photo(32, 48)).save(tmp_path / "a.png")
  Image.fromarray(photo(64, 96, 1)).save(tmp_path / "b.png")

  def two(*args):
    return launch("local.sh", "2", "--", *RUN, f"--workdir={run}", *args)

  for args in (
      ("--mode=eval", "--config.eval.scheme=plain"), refine, ("--mode=export",),
      ("--mode=predict", f"--config.predict.dir={tmp_path}"),
  ):
    done = two(*args)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done: ") == 1
    assert "error" not in done.stderr
    assert done.stderr.count("are at least twice as high") == (
        args[0] == "--mode=predict")

  # Each picture is segmented, and what was exported is what one exports.
  assert len(list((run / "predict").iterdir())) == 6
  done = run_main(*RUN, "--config.mesh.data=-1", "--config.mesh.fsdp=1",
                  f"--workdir={other}", "--mode=export")
  assert done.returncode == 0, done.stderr
  jax.tree.map(
      np.testing.assert_array_equal,
      *(load_file(folder / "model.safetensors") for folder in (run, other)),
  )
  # So is the refinement,
  done = alone(*RUN, *refine, f"--workdir={other}")
  assert done.returncode == 0, done.stderr
  with np.load(run / "refine.npz") as here, \
      np.load(other / "refine.npz") as there:
    assert here.files == there.files
    for name in here.files:
      np.testing.assert_allclose(here[name], there[name], atol=1e-4)
  # and what two measured they measure again, and one but for rounding.
  records = ["eval_plain.json", *(
      f"refine_{name}.json" for name in ("alone", "guided", "network",
                                         "unrefined"))]
  done = two("--mode=verify")
  for name in records:
    assert done.stdout.count(f"{name}: equal, 10 images") == 1
  done = alone(*RUN, f"--workdir={run}", "--mode=verify")
  assert not done.stderr and "protocol" not in done.stdout
  for name in records:
    assert done.stdout.count(f"{name}: ") == 1
  moved = re.findall(r"(\d+) of \d+ pixels are predicted", done.stdout)
  assert sum(map(int, moved)) < 100


def test_two_processes_train_and_test_on_pictures_of_many_sizes(tmp_path):
  folder = write_camvid(tmp_path / "data", count=5)
  for path in folder.glob("*/*/00[24].png"):
    with Image.open(path) as image:
      image.resize((64, 88), Image.Resampling.NEAREST).save(path)
  args = ("--config=configs/setr_enc.py:camvid", *TINY,
          f"--config.data.dir={folder}", "--config.data.resize=shorter",
          "--config.eval.at=original", "--config.model.stem=0")
  one, two = tmp_path / "one", tmp_path / "two"
  done = launch("local.sh", "2", "--", *args, f"--workdir={two}")
  assert done.returncode == 0, done.stderr
  assert done.stdout.count("val: images of 2 sizes") == 1
  done = alone(*args, f"--workdir={one}")
  assert done.returncode == 0, done.stderr
  assert_alike(two, one)


def test_wrong_input_is_said_once_and_ends_all(tmp_path):
  done = launch("local.sh", "2", "--", *RUN, f"--workdir={tmp_path / 'run'}",
                "--config.batch_size=9")
  assert done.returncode == 2
  assert done.stderr.count("error:") == done.stderr.count("\n") == 1
  assert "batch_size=9 is not a multiple" in done.stderr


def test_every_split_of_the_axes_takes_the_same_twenty_steps():
  sizes = (8, 4, 2, 1)
  meshes = [
      [data, fsdp, count // data // fsdp] for count in (8, 2, 1)
      for data in sizes for fsdp in sizes if count % (data * fsdp) == 0
  ]
  assert len(meshes) == 10 + 3 + 1
  steps.assert_same(steps.run({"steps": 20, "meshes": meshes}))


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_take_the_same_twenty_steps_as_one(processes, tmp_path):
  """Checkpoints go from them to one process with one device."""
  job = {"steps": 20, "checkpoints": str(tmp_path / "checkpoints")}
  meshes = [[2, 2, 2], [1, 8, 1], [1, 1, 8]]
  steps.assert_same([
      *steps.run({"meshes": meshes, "test": processes == 2, **job}, processes),
      *steps.run({"meshes": [[1, 1, 1]], **job}),
  ])
