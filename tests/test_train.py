import json
import os
import signal
import subprocess
import time

import jax
import numpy as np
import optax
import pytest

from ppseg_jax import config as config_checks
from ppseg_jax import data, optim, train
from ppseg_jax.configs import setr_enc, setr_paper, setr_plain
from ppseg_jax.data import augment
from ppseg_jax.data.labels import VOID
from ppseg_jax.encryption import key_from_seed
from ppseg_jax.encryption.keys import REFINE, TRAIN, derive
from ppseg_jax.errors import Terminated, UserError
from ppseg_jax.runs import keys, workdir
from ppseg_jax.runs import model as models
from ppseg_jax.runs.start import make_init
from ppseg_jax.runs.workdir import Workdir
from tests import steps
from tests.helpers import (
    ROOT,
    TINY,
    mini_command,
    photo,
    run_main,
    tiny_config,
)

ENC = "--config=configs/setr_enc.py"
HOME = "--config=configs/setr_home.py"


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
  model = models.make(config, 19)
  optimizer = optim.make_optimizer(config.optim, 100)
  state = jax.jit(make_init(config, model, optimizer))()
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
    state, measures = update(state, batch)
    losses.append(float(measures["loss"]))
  assert losses[-1] < losses[0] - 0.3
  assert int(state["step"]) == 8


def test_same_steps_and_checkpoints_on_one_and_eight_devices(tmp_path):
  """On all splits of the axes, and of processes, in tests/test_processes.py."""
  steps.assert_same(steps.run({
      "steps": 5, "meshes": [[2, 2, 2], [1, 1, 1]], "test": True,
      "checkpoints": str(tmp_path / "checkpoints"), "restore": [[8, 1, 1]],
  }))


def test_a_killed_run_resumes_and_ends_like_one_never_stopped(
    tmp_path, mini_flat
):
  args = (HOME, *TINY[1:], "--config.steps=12",
          "--config.optim.ema=0.9", "--config.accumulate=2")
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  assert run_main(*args, f"--workdir={whole}").returncode == 0

  # Killed as soon as a checkpoint appears, at whatever it is doing, each time a
  # bit later; at least one restart must find a checkpoint to go on from.
  resumed = False
  for attempt in range(3):
    process = subprocess.Popen(
        mini_command(*args, f"--workdir={killed}"), cwd=ROOT,
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


def batch_of(n=4):
  images = np.stack([photo(32, 48, seed) for seed in range(n)])
  labels = (images[..., 0] // 64).astype(np.uint8)
  for i in range(n):  # parts with different numbers of counted pixels
    labels[i, : 4 + 6 * i] = VOID
  return {"image": images, "label": labels,
          "index": np.arange(n, dtype=np.int32),
          "epoch": np.zeros(n, np.int32)}


def steps_of(config, n=1):
  """(model, losses, state) after n steps on one batch."""
  model = models.make(config, 19)
  optimizer = optim.make_optimizer(config.optim, 100)
  state = jax.jit(make_init(config, model, optimizer))()
  update = jax.jit(train.make_update(config, model, optimizer))
  losses = []
  for _ in range(n):
    state, measures = update(state, batch_of())
    losses.append(float(measures["loss"]))
  return model, losses, state


PLAIN = {"scheme": "plain", "model__form": "plain", "model__stem": 0}
FIELDS = {"loss__smoothing": 0.1, "loss__ohem": 0.06, "loss__ohem_kept": 99,
          "loss__class_weights": tuple(np.linspace(0.5, 2, 19).tolist()),
          "optim__ema": 0.9, **PLAIN}


@pytest.fixture(scope="module")
def first_step():
  """(loss, parameters before, parameters after) of a first step, made once."""
  made = []

  def make():
    if not made:
      config = tiny_config(**FIELDS)
      _, (loss,), state = steps_of(config)
      start = jax.jit(make_init(
          config, models.make(config, 19),
          optim.make_optimizer(config.optim, 100),
      ))()
      made.append((loss, start["params"], state["params"]))
    return made[0]

  return make


@pytest.mark.parametrize("fields, of_loss, of_step", [
    ({"accumulate": 2}, 1e-5, 1e-4),
    ({"model__remat": True}, 1e-5, 1e-4),
    ({"model__dtype": "bfloat16"}, 1e-2, 5e-2),
], ids=str)
def test_what_saves_memory_takes_the_same_step_to_rounding(
    fields, of_loss, of_step, mini, first_step
):
  loss, before, after = first_step()
  _, (again,), state = steps_of(tiny_config(**FIELDS, **fields))
  assert again == pytest.approx(loss, rel=of_loss)
  assert jax.tree.structure(after) == jax.tree.structure(state["params"])
  norm = optax.tree.norm
  step = optax.tree.sub(after, before)
  off = optax.tree.sub(state["params"], after)
  assert norm(step) > 1e-2
  assert norm(off) < of_step * norm(step)
  assert models.variables_of(state)["params"] is state["ema"]["params"]


def planned(**fields):
  """Bytes of temporaries of the train step, compiled and not run."""
  config = tiny_config(data__height=64, data__width=96, batch_size=8,
                       model__aux=False, **PLAIN, **fields)
  model = models.make(config, 19)
  optimizer = optim.make_optimizer(config.optim, 100)
  shapes = {"image": ((8, 64, 96, 3), np.uint8), "index": ((8,), np.int32),
            "label": ((8, 64, 96), np.uint8), "epoch": ((8,), np.int32)}
  lowered = jax.jit(train.make_update(config, model, optimizer)).lower(
      jax.eval_shape(make_init(config, model, optimizer)),
      {k: jax.ShapeDtypeStruct(*shape) for k, shape in shapes.items()},
  )
  return lowered.compile({
      "xla_backend_optimization_level": 0,  # nobody runs it
      # On a CPU alone these barriers go before operations are put in order, so
      # that what rematerialisation recomputes is computed at once, and kept.
      "xla_disable_hlo_passes": "cse_barrier_expander",
  }).memory_analysis().temp_size_in_bytes


def test_what_saves_memory_plans_less_of_it(mini):
  quick = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", False)  # it plans memory
  try:
    whole = planned()
    assert planned(model__remat=True) < 0.7 * whole
    assert planned(accumulate=4) < 0.5 * whole
  finally:
    jax.config.update("jax_disable_most_optimizations", quick)


def test_accumulating_under_batch_norm_carries_the_statistics_on(mini):
  config = tiny_config(accumulate=2, model__norm="batch", model__aux=False)
  _, losses, state = steps_of(config, 6)
  assert losses[-1] < losses[0]
  leaves = jax.tree.leaves(state["batch_stats"])
  assert leaves and all(np.isfinite(leaf).all() for leaf in leaves)
  assert any(np.abs(leaf - 1).max() > 0.01 for leaf in leaves)


def plaintexts_by_key(config, steps):
  """{key: what was encrypted under it} over the steps of a training."""
  source = data.load(config.data, "train")
  clients = keys.of_training(config)
  config.steps = steps
  met = {}
  for batch in train.make_batches(config, source, 0):
    words = np.asarray(jax.random.key_data(clients.keys(batch, TRAIN)))
    for key, image in zip(words, batch["image"], strict=True):
      met.setdefault(key.tobytes(), set()).add(image.tobytes())
  return met


SMALL = {"data__train_images": 8, "batch_size": 4, "model__aux": False,
         "model__stem": 0}
CROPPED = {"data__crop_width": 32, "data__crop_height": 16, **SMALL}
AUGMENTED = {"setting": "home", "data__scale_min": 0.7, "data__scale_max": 1.4,
             "data__photometric": 0.3, **SMALL}


@pytest.mark.parametrize("fields, keys_met", [
    (CROPPED, 8), (AUGMENTED, 16), ({**CROPPED, **AUGMENTED}, 16),
])
def test_no_key_meets_two_plaintexts_in_two_epochs(fields, keys_met):
  met = plaintexts_by_key(tiny_config(**fields), steps=4)
  assert len(met) == keys_met
  assert all(len(images) == 1 for images in met.values())


def test_fitting_a_refinement_and_choosing_one_share_no_key_with_anything():
  config = tiny_config(**AUGMENTED)
  batch = {"index": np.arange(5), "epoch": np.zeros(5, np.int32)}
  words = [
      jax.random.key_data(clients.keys(batch, split))
      for clients, split in [
          (keys.of_training(config), TRAIN),
          (keys.of_refining(config), REFINE),
          *((keys.of_test(config), split) for split in keys.SPLITS.values()),
      ]
  ]
  assert len(np.unique(np.concatenate(words), axis=0)) == 25


@pytest.mark.parametrize("other", [
    {"data__height": 64}, {"data__leave_out": "1/4"}, {"data__flip": False},
    {"scheme": "blockwise_value"}, {"block": 16, "model__patch": 16},
    {"seed": 1}, {"setting": "home"},
])
def test_another_run_of_other_pictures_has_other_keys(other):
  batch = {"index": np.arange(5), "epoch": np.zeros(5, np.int32)}
  one, two = (
      jax.random.key_data(keys.of_training(config).keys(batch, TRAIN))
      for config in (tiny_config(**SMALL), tiny_config(**SMALL, **other))
  )
  assert not {x.tobytes() for x in np.asarray(one)} & {
      x.tobytes() for x in np.asarray(two)}


def test_augmenting_before_a_key_of_the_image_would_meet_many():
  """What the settings forbid is what the test above can see."""
  config = tiny_config(**AUGMENTED)
  config.key_plan = "image"
  met = plaintexts_by_key(config, steps=4)
  assert len(met) == 8 and all(len(images) == 2 for images in met.values())


def test_a_cloud_cuts_what_an_owner_would_encrypt_cut(mini_flat):
  """The step's loss is that of ready-made windows, whatever the key."""
  config = tiny_config(**CROPPED)
  source = data.load(config.data, "train")
  batch = next(train.make_batches(config, source, 0))
  model = models.make(config, 19)
  optimizer = optim.make_optimizer(config.optim, 100)
  state = jax.jit(make_init(config, model, optimizer))()
  update = jax.jit(train.make_update(config, model, optimizer))
  ready = {name: np.stack([
      array[top : top + 16, left : left + 32][:, :: -1 if mirrored else 1]
      for array, (top, left, mirrored) in zip(
          batch[name], batch["window"], strict=True)
  ]) for name in ("image", "label")}
  assert len(np.unique(batch["window"], axis=0)) > 1
  losses = [float(update(state, x)[1]["loss"]) for x in (
      batch, {"index": batch["index"], "epoch": batch["epoch"], **ready}
  )]
  assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_at_home_a_step_learns_from_what_it_has_coloured(mini):
  """Its loss is that of images that were coloured before."""
  config = tiny_config(**AUGMENTED)
  batch = next(train.make_batches(config, data.load(config.data, "train"), 0))
  key = derive(key_from_seed(config.seed), keys.COLOUR)
  ready = jax.jit(augment.coloured)(key, batch, config.data.photometric)
  assert (ready["image"] != batch["image"]).mean() > 0.5
  losses = []
  for amount, images in ((config.data.photometric, batch), (0.0, ready)):
    config = tiny_config(**{**AUGMENTED, "data__photometric": amount})
    model = models.make(config, 19)
    optimizer = optim.make_optimizer(config.optim, 100)
    state = jax.jit(make_init(config, model, optimizer))()
    update = jax.jit(train.make_update(config, model, optimizer))
    losses.append(float(update(state, images)[1]["loss"]))
  assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def short_run(**fields):
  return tiny_config(**{
      "steps": 6, "log_every": 2, "checkpoint_every": 2, "eval__every": 100,
      "panels": 1, "data__val_images": 4, **SMALL, **fields,
  })


def test_transfers_are_forbidden_in_every_step_but_the_one_that_is_traced(
    mini_flat, tmp_path, monkeypatch
):
  levels, guard = [], jax.transfer_guard
  monkeypatch.setattr(
      jax, "transfer_guard", lambda level: levels.append(level) or guard(level)
  )
  train.train(short_run(), tmp_path)
  assert levels == ["allow", *5 * ["disallow"]]


def test_a_loss_that_is_not_finite_stops_and_leaves_a_good_checkpoint(
    mini_flat, tmp_path, monkeypatch
):
  config = short_run()
  make_update = train.make_update

  def poisoned(*args):
    update = make_update(*args)

    def broken(state, batch):
      new, measures = update(state, batch)
      bad = state["step"] == 4
      nan = jax.numpy.where(bad, jax.numpy.nan, 0.0)
      new["params"] = jax.tree.map(lambda x: x + nan, new["params"])
      return new, measures | {"loss": measures["loss"] + nan}

    return broken

  monkeypatch.setattr(train, "make_update", poisoned)
  with pytest.raises(UserError, match="loss of step 5 is nan; the last good"
                     " checkpoint is that of step 4"):
    train.train(config, tmp_path)
  assert not (tmp_path / "result.json").exists()
  lines = (tmp_path / "metrics.jsonl").read_text()
  assert "NaN" not in lines and '"step": 4' in lines
  found = models.load(config, tmp_path, 19, train.sharding.make_mesh(
      config.mesh))
  assert found.step == 4
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(found.variables))


@pytest.mark.parametrize("number, raised", [
    (signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated),
])
def test_a_run_that_is_asked_to_stop_saves_and_says_where_it_goes_on(
    number, raised, mini_flat, tmp_path, monkeypatch
):
  config = short_run()
  before = signal.getsignal(number)
  put = train.sharding.put_batch
  count = 0

  def put_batch(*args):  # asked while step 3 is under way
    nonlocal count
    count += 1
    if count == 3:
      signal.raise_signal(number)
    return put(*args)

  with monkeypatch.context() as patch:
    patch.setattr(train.sharding, "put_batch", put_batch)
    with pytest.raises(raised, match="goes on at step 3 of 6"):
      train.train(config, tmp_path)
  assert signal.getsignal(number) is before
  result = train.train(config, tmp_path)
  whole = train.train(config, tmp_path / "whole")
  assert result.protocol == whole.protocol
  assert result.confusion == whole.confusion


def test_a_test_that_was_cut_short_is_done_on_going_on(
    mini_flat, tmp_path, monkeypatch
):
  config = short_run(eval__every=2)
  with monkeypatch.context() as patch:
    patch.setattr(train.evaluate, "evaluate", None)  # fails after the save
    with pytest.raises(TypeError):
      train.train(config, tmp_path / "cut")
  train.train(config, tmp_path / "cut")
  train.train(config, tmp_path / "whole")
  cut, whole = (
      (tmp_path / name / "metrics.jsonl").read_text().splitlines()
      for name in ("cut", "whole")
  )
  assert sorted(cut) == sorted(whole) and sum("miou" in x for x in cut) == 3


def test_two_starts_in_one_workdir_are_not_both_run(mini, tmp_path):
  config, run = short_run(), tmp_path / "run"
  with Workdir(run).held(), pytest.raises(UserError, match="in use by"):
    train.train(config, run)
  assert not run.exists()
  run.mkdir()
  (run / "lock").write_text("left by a process that died")
  with Workdir(run).held():
    (run / "kept").touch()
  assert sorted(os.listdir(run)) == ["kept", "lock"]


def test_a_run_whose_data_is_missing_leaves_the_workdir_free(tmp_path):
  config = tiny_config(data__name="camvid", data__dir=str(tmp_path / "none"))
  with pytest.raises(UserError, match=r"data\.dir"):
    train.train(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()
  other = config_checks.resolve(setr_enc.get_config())
  workdir.check_config(tmp_path / "run", other.to_dict())
