"""One tiny training on one mesh after another, for tests of many devices.

`run` starts it in processes of its own, since the number of devices cannot
change within one:

    python -m tests.steps JOB [PORT PROCESSES PROCESS]

JOB is JSON: `steps`; `meshes`, data, fsdp and model of each, which need not
take all devices; `test`, whether to test as well; `checkpoints`, a folder, if
wanted, and `restore`, meshes on which only to restore. Process 0 prints, as
JSON, a record for each mesh: the loss of every step, a hash of the pictures,
labels and ciphertexts that the steps saw, and what a test found. If nothing
lies in the folder, what the first mesh ends with is saved there, and every mesh
restores it. Hashes of what was saved and of what was restored are told, and of
the restored model adapted to a key that images share.
"""

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from ppseg_jax import data, distributed, evaluate, optim, sharding, train
from ppseg_jax.encryption.keys import TRAIN
from ppseg_jax.models.adapt import adapted
from ppseg_jax.models.vit import SIZES, Size
from ppseg_jax.runs import checkpoints, keys
from ppseg_jax.runs import model as models
from ppseg_jax.runs.start import make_init
from ppseg_jax.windows import windows_of
from tests.helpers import ROOT, tiny_config


def free_port() -> str:
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return str(free.getsockname()[1])


def environment(devices: int, **more: str) -> dict[str, str]:
  """Of a process with that many simulated devices.

  It compiles without most optimizations, in two thirds of the time.
  """
  return dict(os.environ, JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES=str(devices),
              JAX_DISABLE_MOST_OPTIMIZATIONS="1", **more)


def run(job: dict, processes: int = 1) -> list[dict]:
  """The records of a job on eight devices, which processes share out evenly."""
  env = environment(8 // processes)
  groups = [()]
  if processes > 1:
    port = free_port()
    groups = [(port, str(processes), str(i)) for i in range(processes)]
  running = [
      subprocess.Popen(
          [sys.executable, "-m", "tests.steps", json.dumps(job), *group],
          cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE,
          stderr=subprocess.PIPE,
      ) for group in groups
  ]
  try:
    said = [process.communicate(timeout=1800) for process in running]
  finally:
    for process in running:
      process.kill()
  assert not any(process.returncode for process in running), said
  return json.loads(said[0][0].splitlines()[-1])


def assert_same(ran: list[dict]) -> None:
  """The records are of one training, but for the rounding of sums."""
  one = ran[0]
  assert one["losses"][-1] < one["losses"][0]
  for each in ran:
    if "losses" in each:
      assert each["seen"] == one["seen"]
      np.testing.assert_allclose(each["losses"], one["losses"], rtol=2e-4)
    if "pixels" in each:
      assert each["pixels"] == one["pixels"]
      assert abs(each["accuracy"] - one["accuracy"]) < 2e-3
    assert each.get("restored") == one.get("saved")
    assert each.get("adapted") == one.get("adapted")


def main(job: str, *group: str) -> None:
  job = json.loads(job)
  if group:
    port, processes, process = group
    distributed.start(f"127.0.0.1:{port}", int(processes), int(process), 100,
                      noted=False)
  # Heads and columns that eight devices can share.
  SIZES["demo"] = Size(64, 1, 8)
  config = tiny_config(
      steps=job["steps"], batch_size=8, setting="home", scheme="independent",
      data__scale_max=1.4, data__train_images=20, model__form="plain",
      model__stem=0, model__aux=False, optim__ema=0.9, loss__smoothing=0.1,
  )
  found = [
      *(of_mesh(config, job, on(shape)) for shape in job.get("meshes", ())),
      *(of_mesh(config, job | {"steps": 0}, on(shape))
        for shape in job.get("restore", ())),
  ]
  print(json.dumps(found))


def on(shape: list[int]) -> Mesh:
  devices = np.array(jax.devices()[: np.prod(shape)])
  return Mesh(devices.reshape(shape), sharding.AXES,
              axis_types=(AxisType.Auto,) * 3)


def of_mesh(config, job: dict, mesh: Mesh) -> dict:
  space = data.label_space(config.data)
  model = models.make(config, space.num_classes)
  optimizer = optim.make_optimizer(config.optim, config.steps)
  init = make_init(config, model, optimizer)
  abstract = sharding.abstract_on(mesh, init)
  state, record = None, {}
  if job["steps"]:
    update = train.make_update(config, model, optimizer)
    state, record = trained(config, update, init, abstract, mesh)
    if job.get("test"):
      record |= tested(config, model, state, mesh)
  if "checkpoints" in job:
    record |= restored(config, state, abstract, Path(job["checkpoints"]))
  return record


def trained(config, update, init, abstract, mesh: Mesh) -> tuple[dict, dict]:
  places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  whole = sharding.replicated(mesh)
  clients = keys.of_training(config)
  step = jax.jit(
      lambda state, batch: (*update(state, batch), batch | {
          "seen": clients.encrypt(batch, TRAIN)
      }), donate_argnums=0,
      in_shardings=(places, sharding.batch_sharding(mesh)),
      out_shardings=(places, whole, whole),
  )
  state = jax.jit(init, out_shardings=places)()
  rows = sharding.rows_here(mesh, config.batch_size)
  source = data.load(config.data, "train")
  losses, digest = [], hashlib.sha256()
  for batch in train.make_batches(config, source, 0, rows):
    state, measures, seen = step(state, sharding.put_batch(batch, mesh))
    for name in sorted(seen):
      digest.update(np.asarray(seen[name]).tobytes())
    losses.append(float(measures["loss"]))
  return state, {"losses": losses, "seen": digest.hexdigest()}


def restored(config, state, abstract, folder: Path) -> dict:
  record = {}
  if not distributed.once(folder.exists):
    manager = checkpoints.open_manager(folder, {})
    checkpoints.save(manager, config.steps, state)
    manager.close()
    record["saved"] = checkpoints.digest(state)
  with checkpoints.open_manager(folder) as manager:
    step, state = checkpoints.restore_latest(manager, abstract)
  assert step == config.steps
  moved = adapted(
      models.bare(state), "independent", keys.shared_key(1), config.block
  )
  return record | {"restored": checkpoints.digest(state),
                   "adapted": checkpoints.digest(moved)}


def tested(config, model, state: dict, mesh: Mesh) -> dict:
  source = data.load_test(config, "val")
  answer = evaluate.make_answer(
      model, keys.of_test(config), keys.SPLITS["val"],
      windows_of(config),
  )
  step = evaluate.make_step(answer, model.num_classes, mesh)
  found = evaluate.evaluate(
      step, models.variables_of(state), source, mesh, images=10,
      batch_size=config.batch_size,
  )[""]
  return {"pixels": found.pixels, "accuracy": found.pixel_accuracy}


if __name__ == "__main__":
  main(*sys.argv[1:])
