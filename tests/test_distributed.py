"""Several processes that work on one run: how they come together.

What whole runs do lies in test_processes.py.
"""

import subprocess
import sys
import time

import pytest

from ppseg_jax import distributed, sharding
from ppseg_jax.errors import UserError
from tests import steps
from tests.helpers import ROOT

OMPI5 = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3",
         "OMPI_COMM_WORLD_LOCAL_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "3"}
SLURM = {"SLURM_STEP_NODELIST": "node[3-5]", "SLURM_NTASKS": "12",
         "SLURM_STEP_TASKS_PER_NODE": "4(x3)", "SLURM_NODEID": "2",
         "SLURM_LOCALID": "1", "SLURM_GPUS_ON_NODE": "8"}


def found(coordinator="", processes=0, process=None, **environ):
  found = distributed.find(coordinator, processes, process, environ)
  return tuple(found.get(name) for name in (
      "coordinator_address", "num_processes", "process_id"
  ))


def test_what_is_given_counts_and_the_rest_is_the_launchers():
  assert found("a:1", 4, 2) == ("a:1", 4, 2)
  assert found("a:1", 4, JOB_COMPLETION_INDEX="3") == ("a:1", 4, 3)
  assert found(processes=4, process=1, JAX_COORDINATOR_ADDRESS="b:2") == (
      "b:2", 4, 1)
  assert found(**OMPI5)[1:] == (4, 3)
  assert found(**OMPI5)[0].startswith("127.0.0.1:")
  assert found(JAX_COORDINATOR_ADDRESS="b:2", **OMPI5) == ("b:2", 4, 3)
  assert found("b:2", **OMPI5) == ("b:2", 4, 3)
  # Left to jax, which knows them.
  assert found(**SLURM) == found(OMPI_MCA_orte_hnp_uri="1.0;tcp://a:1",
                                 **OMPI5) == (None, None, None)


@pytest.mark.parametrize("given, part", [
    ({"coordinator": "a:1", "process": 0}, "give both"),
    ({"processes": 2, "process": 0}, "give both"),
    ({"coordinator": "a", "processes": 2, "process": 0}, "HOST:PORT"),
    ({"coordinator": "a:1", "processes": 2}, "from 0 to 1"),
    ({"coordinator": "a:1", "processes": 2, "process": 2}, "less than"),
    (OMPI5 | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, "where process 0 runs"),
])
def test_what_is_missing_is_asked_for(given, part):
  with pytest.raises(UserError, match=part):
    found(**given)


@pytest.mark.parametrize("environ, gpus, expected", [
    ({}, 8, None),  # by hand: jax takes all
    (SLURM, 8, [2, 3]),  # of 8 that 4 tasks see, not the one numbered 1
    (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "8(x2),1", "SLURM_LOCALID": "0"}, 8,
     list(range(8))),
    (SLURM | {"CUDA_VISIBLE_DEVICES": "4,5"}, 8, [0, 1]),  # SLURM cut them
    (SLURM, 0, None),
    (SLURM | {"JAX_PLATFORMS": "cpu"}, 8, None),
    (OMPI5, 4, [3]),
    (OMPI5 | {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, 8, [6, 7]),
])
def test_all_gpus_of_a_machine_are_used_once(environ, gpus, expected):
  assert distributed.gpus_of_task(environ, gpus) == expected


def test_gpus_that_cannot_be_shared_evenly_are_refused():
  for gpus in (3, 6):
    with pytest.raises(UserError, match=f"share {gpus} GPUs"):
      distributed.gpus_of_task(OMPI5, gpus)


class Placed:
  """A sharding as one process sees it: which rows its devices hold."""

  def __init__(self, parts):
    self._parts = parts

  def addressable_devices_indices_map(self, shape):
    return {
        device: (slice(part, part + 1) if shape[0] > 1 else slice(None),)
        for device, part in enumerate(self._parts)
    }


@pytest.mark.parametrize("devices, parts", [
    ([3, 0, 2], [0, 2, 3]), ([1, 1, 0, 0], [0, 1]), ([0, 0], [0]),
])
def test_a_process_reads_what_its_devices_hold_each_once(devices, parts):
  count = max(max(devices) + 1, 1)
  found = sharding._parts_here(Placed(devices), count)
  assert found.tolist() == parts


# Two processes of four devices each, and every kind of order. At the end one
# fails where the other waits for it.
TOGETHER = """
import sys
import jax, numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from ppseg_jax import command, distributed, sharding
from ppseg_jax.data.pipeline import train_batches
from ppseg_jax.errors import UserError
from tests.data.helpers import Numbers

port, process = sys.argv[1:]
distributed.start(f"127.0.0.1:{port}", 2, int(process), 100, noted=False)
order = np.array(jax.devices())
orders = {"in order": order, "interleaved": order.reshape(2, 4).T.ravel(),
          "mixed": order[[5, 0, 3, 6, 1, 7, 2, 4]]}

def keep(rng, image, labels):
  return {"image": image, "label": labels}

def read(rows=None):
  return next(train_batches(Numbers(40), keep, batch_size=16, seed=3,
                            first_step=1, last_step=2, rows=rows))

def rows_are_right():
  whole = read()
  for devices in orders.values():
    for shape in ((8, 1, 1), (2, 2, 2), (1, 4, 2), (4, 1, 2), (1, 1, 8)):
      mesh = Mesh(devices.reshape(shape), sharding.AXES,
                  axis_types=(AxisType.Auto,) * 3)
      rows = sharding.rows_here(mesh, 16)
      for name, array in sharding.put_batch(read(rows), mesh).items():
        assert array.shape == whole[name].shape
        for shard in array.addressable_shards:
          np.testing.assert_array_equal(shard.data, whole[name][shard.index])
  # With data and model laid out so, each process has half of the rows.
  mesh = Mesh(order.reshape(2, 1, 4), sharding.AXES)
  assert len(sharding.rows_here(mesh, 16)) == 8

def body():
  rows_are_right()
  mesh = Mesh(order, ("all",))
  split = jax.make_array_from_callback(
      (8,), NamedSharding(mesh, P("all")), lambda index: np.arange(8)[index])
  assert distributed.whole(split).tolist() == list(range(8))
  me = jax.process_index()
  assert distributed.gather(me) == [0, 1]
  assert distributed.once(lambda: [me, "chosen"]) == [0, "chosen"]
  print("rows are right")
  if me:
    raise UserError("this went wrong in one of them.")
  jax.block_until_ready(jax.jit(lambda x: x.sum())(split))
  raise AssertionError("the other never came")

sys.exit(distributed.together(body, command.answer))
"""


def test_rows_are_where_they_belong_and_one_failure_ends_all():
  port = steps.free_port()
  running = [
      subprocess.Popen(
          [sys.executable, "-c", TOGETHER, port, str(process)], cwd=ROOT,
          env=steps.environment(4), text=True, stdout=subprocess.PIPE,
          stderr=subprocess.PIPE,
      ) for process in range(2)
  ]
  other = running[1].communicate(timeout=300)
  failed = time.monotonic()
  said = [running[0].communicate(timeout=300), other]
  assert time.monotonic() - failed < 30
  assert [process.returncode for process in running] == [2, 2], said
  assert "1 host(s), 2 processes, 8 x cpu" in said[0][0]
  assert said[0][0].count("rows are right") == 1
  assert said[1][0] == ""  # what is printed is printed once
  assert said[0][1] + said[1][1] == "error: this went wrong in one of them.\n"
