"""Checkpoints: which are kept, and what a damaged one does."""

import jax
import jax.numpy as jnp

from ppseg_jax.runs import checkpoints


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
  """Each step is measured after it was saved."""
  known = {}
  manager = checkpoints.open_manager(folder / "checkpoints", known)
  for step, miou in miou_by_step.items():
    checkpoints.save(manager, step, state_of(step))
    if miou is not None:
      known[step] = miou
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
  manager = checkpoints.open_manager(tmp_path / "checkpoints", {})
  assert checkpoints.restore_latest(manager, abstract_state())[0] == 1
  checkpoints.save(manager, 2, state_of(7))
  manager.wait_until_finished()
  step, state = checkpoints.restore_latest(manager, abstract_state())
  assert step == 2 and state["params"]["w"].tolist() == [7.0] * 4


def test_what_a_killed_save_left_goes_and_a_second_damage_has_a_name(tmp_path):
  for _ in range(2):
    save_all(tmp_path, {1: 0.1, 2: 0.2}).close()
    leftover = tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp"
    leftover.mkdir()
    for path in (tmp_path / "checkpoints" / "2" / "default").rglob("*"):
      if path.is_file():
        path.write_bytes(b"")
    manager = checkpoints.open_manager(tmp_path / "checkpoints", {})
    assert not leftover.exists()
    assert checkpoints.restore_latest(manager, abstract_state())[0] == 1
    manager.close()
  assert (tmp_path / "damaged-checkpoint-2-2").is_dir()


def test_a_damaged_checkpoint_is_moved_aside_for_an_older_one(tmp_path, capfd):
  save_all(tmp_path, {1: 0.1, 2: 0.2}).close()
  for path in (tmp_path / "checkpoints" / "2" / "default").rglob("*"):
    if path.is_file() and path.name != "commit_success.txt":
      path.write_bytes(b"")
  manager = checkpoints.open_manager(tmp_path / "checkpoints", {})
  step, state = checkpoints.restore_latest(manager, abstract_state())
  assert step == 1 and state["params"]["w"].tolist() == [1.0] * 4
  assert "checkpoint 2" in capfd.readouterr().err
  assert (tmp_path / "damaged-checkpoint-2").is_dir()
  checkpoints.save(manager, 2, state_of(2))
  manager.wait_until_finished()
  assert checkpoints.restore_latest(manager, abstract_state())[0] == 2
