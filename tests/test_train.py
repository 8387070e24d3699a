import json
import os
import signal
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import setr_enc, setr_paper, setr_plain
from ppseg_jax import config as config_checks
from ppseg_jax import optim, train
from ppseg_jax.runs import checkpoints
from tests.helpers import ROOT, TINY, main_command, photo, run_main

ENC = "--config=configs/setr_enc.py"


def result_of(workdir):
  return json.loads((workdir / "result.json").read_text())


def losses_of(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  return [(r["step"], r["loss"]) for r in records if "loss" in r]


@pytest.mark.parametrize("experiment", [setr_enc, setr_plain, setr_paper])
def test_training_on_one_batch_lowers_its_loss(experiment):
  config = experiment.get_config()
  config.data.height, config.data.width, config.optim.warmup = 32, 48, 0
  config = config_checks.resolve(config)
  model = train.make_model(config, 19)
  optimizer = optim.make_optimizer(config.optim, 100)
  state = jax.jit(train.make_init(config, model, optimizer))()
  update = jax.jit(train.make_update(config, model, optimizer))
  images = np.stack([photo(32, 48, seed) for seed in range(4)])
  batch = {
      "image": images,
      "label": (images[..., 0] // 64).astype(np.uint8),
      "index": np.arange(4, dtype=np.int32),
      "epoch": np.zeros(4, np.int32),
  }
  losses = []
  for _ in range(8):
    state, loss = update(state, batch)
    losses.append(float(loss))
  assert losses[-1] < losses[0] - 0.3
  assert int(state["step"]) == 8


def test_head_and_decay_and_schedule_do_what_the_config_says():
  config = setr_enc.get_config().optim
  config.update(name="sgd", lr=0.1, schedule="poly", warmup=0, momentum=0.0,
                weight_decay=0.5, head_lr=10.0, clip=0.0)
  optimizer = optim.make_optimizer(config, 10)
  params = {"encoder": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
            "head": {"bias": jnp.ones(2)}}
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(zero, optimizer.init(params), params)
  np.testing.assert_allclose(updates["encoder"]["kernel"], -0.05)
  np.testing.assert_allclose(updates["encoder"]["bias"], 0)
  ones = jax.tree.map(jnp.ones_like, params)
  updates, _ = optimizer.update(ones, optimizer.init(params), params)
  np.testing.assert_allclose(updates["encoder"]["bias"], -0.1)
  np.testing.assert_allclose(updates["head"]["bias"], -1.0)
  schedule = optim.make_schedule(config, 10)
  assert float(schedule(5)) == pytest.approx(0.1 * 0.5**0.9)
  config.update(schedule="cosine", warmup=4)
  warm = optim.make_schedule(config, 10)
  assert float(warm(0)) == 0 and float(warm(4)) == pytest.approx(0.1)


@pytest.mark.parametrize("mesh", [
    ("--config.mesh.data=-1",),
    ("--config.mesh.data=2", "--config.mesh.fsdp=2", "--config.mesh.model=2"),
])
def test_same_loss_on_one_and_eight_devices(mesh, tmp_path):
  args = (ENC, *TINY[1:], "--config.steps=10", "--config.key_plan=epoch",
          "--config.loss.ohem=0.7", "--config.loss.ohem_kept=200",
          "--config.loss.smoothing=0.1")
  one, eight = tmp_path / "one", tmp_path / "eight"
  done = run_main(*args, f"--workdir={one}", devices=1)
  assert done.returncode == 0, done.stderr
  done = run_main(*args, *mesh, f"--workdir={eight}", devices=8)
  assert done.returncode == 0, done.stderr
  assert "8 device(s)" in done.stdout
  losses = losses_of(one)
  assert len(losses) == 10 and losses[-1][1] < losses[0][1]
  np.testing.assert_allclose(losses_of(eight), losses, rtol=2e-4)
  assert result_of(eight)["miou"] == pytest.approx(
      result_of(one)["miou"], abs=2e-3
  )


def test_a_killed_run_resumes_and_ends_like_one_never_stopped(tmp_path):
  args = (ENC, *TINY[1:], "--config.steps=12", "--config.key_plan=epoch",
          "--config.optim.ema=0.9", "--config.accumulate=2")
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  assert run_main(*args, f"--workdir={whole}").returncode == 0

  # Killed as soon as a checkpoint appears, at whatever it is doing, each time a
  # bit later; at least one restart must find a checkpoint to go on from.
  resumed = False
  for attempt in range(3):
    process = subprocess.Popen(
        main_command(*args, f"--workdir={killed}"), cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=dict(os.environ, PYTHONUNBUFFERED="1"),
    )
    for line in process.stdout:
      resumed |= "resuming" in line
      if line.startswith(f"step {3 + 3 * attempt}/12  loss"):
        time.sleep(0.05 * attempt)
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "result.json").exists()
  done = run_main(*args, f"--workdir={killed}")
  assert done.returncode == 0, done.stderr
  assert resumed or "resuming" in done.stdout

  assert losses_of(killed) == losses_of(whole)
  one, two = result_of(whole), result_of(killed)
  assert one["confusion"] == two["confusion"]
  assert one["protocol"] == two["protocol"]  # the checkpoint's digest too
  assert one["protocol"]["weights"] == "averaged, decay 0.9"
  done = run_main(*args, f"--workdir={killed}", "--mode=eval")
  assert done.returncode == 0, done.stderr
  again = json.loads((killed / "eval_blockwise.json").read_text())
  assert again["confusion"] == one["confusion"]


def state_of(value):
  return {"params": {"w": jnp.full(4, float(value))},
          "step": jnp.asarray(value, jnp.int32)}


def abstract_state():
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
      state_of(0),
  )


def save_all(folder, miou_by_step):
  manager = checkpoints.open_manager(folder)
  for step, miou in miou_by_step.items():
    metrics = None if miou is None else {"miou": miou}
    checkpoints.save(manager, step, state_of(step), metrics)
  manager.wait_until_finished()
  return manager


def test_the_last_two_and_the_best_checkpoint_are_kept(tmp_path):
  manager = save_all(tmp_path, {1: None, 2: 0.5, 3: None, 4: 0.2, 5: 0.1})
  assert sorted(manager.all_steps()) == [2, 4, 5]
  step, state = checkpoints.restore_latest(manager, abstract_state())
  assert step == 5 and state["params"]["w"].tolist() == [5.0] * 4


def test_a_checkpoint_without_its_commit_is_none(tmp_path):
  save_all(tmp_path, {1: 0.1, 2: 0.2}).close()
  (tmp_path / "checkpoints" / "2" / "commit_success.txt").unlink()
  manager = checkpoints.open_manager(tmp_path)
  assert checkpoints.restore_latest(manager, abstract_state())[0] == 1
  checkpoints.save(manager, 2, state_of(7), {"miou": 0.2})
  manager.wait_until_finished()
  step, state = checkpoints.restore_latest(manager, abstract_state())
  assert step == 2 and state["params"]["w"].tolist() == [7.0] * 4


def test_a_damaged_checkpoint_is_moved_aside_for_an_older_one(tmp_path, capfd):
  save_all(tmp_path, {1: 0.1, 2: 0.2}).close()
  for path in (tmp_path / "checkpoints" / "2" / "default").rglob("*"):
    if path.is_file() and path.name != "commit_success.txt":
      path.write_bytes(b"")
  manager = checkpoints.open_manager(tmp_path)
  step, state = checkpoints.restore_latest(manager, abstract_state())
  assert step == 1 and state["params"]["w"].tolist() == [1.0] * 4
  assert "checkpoint 2" in capfd.readouterr().err
  assert (tmp_path / "damaged-checkpoint-2").is_dir()
  checkpoints.save(manager, 2, state_of(2), {"miou": 0.2})
  manager.wait_until_finished()
  assert checkpoints.restore_latest(manager, abstract_state())[0] == 2
