"""Several processes that work on one run, on one machine or on many.

Each is given the same command. `start` joins them, before anything touches a
device; from then on `jax.devices()` are those of all. What is to be done, said
or chosen once is done by process 0 (`first`, `once`), and where one process
fails all of them end (`together`). With one process alone all of this costs and
changes nothing.
"""

import glob
import json
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from orbax.checkpoint import multihost

from ppseg_jax.errors import Terminated, UserError

_PORT = 12321  # of the coordinator on this very machine
_FAILED, _GONE = "ppseg_jax/failed", "ppseg_jax/gone"
_POLL = 0.5  # seconds between two looks at whether another process failed
_GRACE = 2.0  # seconds in which a process may find the same error itself
_WAIT = 10.0  # seconds that process 0 waits for the others, to end as the last
_FOREVER = 7 * 24 * 3600 * 1000  # ms; a failure elsewhere ends the wait before

# Variables that tell a process its number, in the order they are asked.
_NUMBERS = ("JOB_COMPLETION_INDEX", "OMPI_COMM_WORLD_RANK", "PMIX_RANK",
            "PMI_RANK", "SLURM_PROCID")

_told = 0  # values that processes told each other by now


class Stopped(Terminated):
  """One process was asked to stop, and all have saved the same step."""


def find(
    coordinator: str, processes: int, process: int | None,
    environ: Mapping[str, str],
) -> dict[str, Any]:
  """Who takes part, as arguments of `jax.distributed.initialize`.

  What is given counts; a `process` that is not is taken from the launcher's
  variables. If nothing is given, SLURM under `srun`, Open MPI 4, GKE and Cloud
  TPU are left to jax's detection. Open MPI 5, which that does not know, is
  detected here; across machines it needs JAX_COORDINATOR_ADDRESS or
  `coordinator`.

  Args:
    coordinator: HOST:PORT of process 0; '' where it is to be found out.
    processes: how many there are; 0 likewise.
    process: which this is; None likewise.
    environ: as `os.environ`.

  Raises:
    UserError: where something is missing, or does not fit.
  """
  coordinator = coordinator or environ.get("JAX_COORDINATOR_ADDRESS", "")
  size = int(environ.get("OMPI_COMM_WORLD_SIZE", 0))
  if size and not processes and "OMPI_MCA_orte_hnp_uri" not in environ:
    processes = size
    if not coordinator and size == int(environ["OMPI_COMM_WORLD_LOCAL_SIZE"]):
      coordinator = f"127.0.0.1:{environ.get('JAX_COORDINATOR_PORT', _PORT)}"
    if not coordinator:
      raise UserError(
          "Open MPI does not say where process 0 runs; give"
          " --coordinator=HOST:PORT, with any free port."
      )
  if not processes and process is None:
    return {}
  if not coordinator or not processes:
    raise UserError(
        "--coordinator=HOST:PORT of process 0 and --processes belong together;"
        " give both, or --distributed alone."
    )
  if not re.fullmatch(r".+:\d+", coordinator):
    raise UserError(
        f"--coordinator={coordinator} must be HOST:PORT, a free port of the"
        " machine of process 0."
    )
  if process is None:
    numbers = [environ[name] for name in _NUMBERS if name in environ]
    if not numbers:
      raise UserError(
          f"--process is missing; give each of the {processes} processes a"
          f" number from 0 to {processes - 1}."
      )
    process = int(numbers[0])
  if not 0 <= process < processes:
    raise UserError(
        f"--process={process} must be at least 0 and less than --processes="
        f"{processes}."
    )
  return {
      "coordinator_address": coordinator, "num_processes": processes,
      "process_id": process, "cluster_detection_method": "deactivate",
  }


def gpus_of_task(
    environ: Mapping[str, str], on_machine: int
) -> list[int] | None:
  """Which of the GPUs that it sees a task uses; None: whatever it sees.

  jax uses one a task under SLURM and Open MPI, and leaves the others idle where
  a machine has more GPUs than tasks. Here tasks that see the same GPUs share
  them out evenly, and one whose GPUs SLURM has chosen takes all of them.

  Args:
    environ: as `os.environ`.
    on_machine: GPUs there are.

  Raises:
    UserError: where tasks cannot share them evenly.
  """
  if environ.get("JAX_PLATFORMS") in ("cpu", "tpu") or (
      "JAX_LOCAL_DEVICE_IDS" in environ
  ):
    return None
  if "SLURM_LOCALID" in environ and "SLURM_STEP_NODELIST" in environ:
    local = int(environ["SLURM_LOCALID"])
    tasks = _tasks_here(environ)
  elif "OMPI_COMM_WORLD_LOCAL_RANK" in environ:
    local = int(environ["OMPI_COMM_WORLD_LOCAL_RANK"])
    tasks = int(environ["OMPI_COMM_WORLD_LOCAL_SIZE"])
  else:
    return None
  seen = on_machine
  for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
    if name in environ:
      seen = len(list(filter(None, environ[name].split(","))))
  if not seen:
    return None
  if seen < int(environ.get("SLURM_GPUS_ON_NODE", seen)):
    return list(range(seen))
  share, rest = divmod(seen, tasks)
  if rest or not share:
    raise UserError(
        f"{tasks} tasks cannot share {seen} GPUs evenly; start as many tasks a"
        " machine as it has GPUs, or one."
    )
  return list(range(local * share, (local + 1) * share))


def _tasks_here(environ: Mapping[str, str]) -> int:
  """Of the step on this node: SLURM writes 8(x2),4 for 8, 8 and 4."""
  counts = []
  text = environ.get("SLURM_STEP_TASKS_PER_NODE", environ["SLURM_NTASKS"])
  for part in text.split(","):
    count, _, times = part.partition("(x")
    counts += [int(count)] * int(times.rstrip(")") or 1)
  return counts[int(environ.get("SLURM_NODEID", 0))]


def start(
    coordinator: str, processes: int, process: int | None, heartbeat: int,
    noted: bool,
) -> None:
  """Joins this process with the others, and says how many take part.

  Args:
    coordinator: see `find`; likewise `processes` and `process`.
    processes: see above.
    process: see above.
    heartbeat: seconds after which a process that was killed ends the others.
    noted: SIGTERM is only noted, for `runs.stopping`; else it ends the process.

  Raises:
    UserError: where they do not come together.
  """
  given = find(coordinator, processes, process, os.environ)
  gpus = gpus_of_task(os.environ, len(glob.glob("/dev/nvidia[0-9]*")))
  term = signal.getsignal(signal.SIGTERM)
  try:
    jax.distributed.initialize(
        **given, local_device_ids=gpus, heartbeat_timeout_seconds=heartbeat
    )
  except (ValueError, RuntimeError) as error:  # jax's own is one of these
    text = "no SLURM (under srun), Open MPI, Kubernetes or TPU is found; give" \
        " --coordinator=HOST:PORT, --processes and --process."
    known = "should be defined" in str(error) or "must be defined" in str(error)
    raise UserError(
        f"the processes do not come together: {text if known else error}"
    ) from None
  if not noted:  # initialize has put jax's handler in its place
    signal.signal(signal.SIGTERM, term)
  if not first():  # whatever is printed is printed once
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  if jax.default_backend() == "cpu":  # its collectives are lost in the cache
    jax.config.update("jax_enable_compilation_cache", False)
  threading.Thread(target=_watch, daemon=True).start()
  _meet()
  hosts = len(set(gather(socket.gethostname())))
  print(
      f"{hosts} host(s), {jax.process_count()} processes,"
      f" {jax.device_count()} x {jax.devices()[0].device_kind}", flush=True,
  )


def _meet() -> None:
  """A sum over all devices, before compilations keep some of them waiting.

  Gloo gives up on a group that does not meet within 30 s.
  """
  mesh = jax.make_mesh((jax.device_count(),), ("all",))
  ones = jax.make_array_from_callback(
      (jax.device_count(),), NamedSharding(mesh, P("all")),
      lambda index: np.ones(1, np.int32),
  )
  total = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, P()))(ones)
  if int(total) != jax.device_count():
    raise RuntimeError(f"{total} of {jax.device_count()} devices took part")


def several() -> bool:
  return _client() is not None and jax.process_count() > 1


def first() -> bool:
  """Whether this is the process that does what is done once."""
  return _client() is None or jax.process_index() == 0


def _client():
  """Of the key-value store that process 0 keeps; None with one process.

  Only there does a process that waits in a collective hear of a failure. jax
  does not give it out; orbax, which tells its own processes by it, does.
  """
  if not jax.distributed.is_initialized():
    return None
  return multihost.get_jax_distributed_client()


def once(function: Callable[[], Any]) -> Any:
  """What `function()` gives in process 0, told to all; JSON can hold it.

  Where it raises, all end, see `together`.
  """
  if not several():
    return function()
  value = function() if first() else None
  return _tell({0: value} if first() else {}, [0])[0]


def gather(value: Any) -> list[Any]:
  """The values of all processes, in their order; JSON can hold them.

  Nobody goes on before all have come here.
  """
  if not several():
    return [value]
  return _tell({jax.process_index(): value}, range(jax.process_count()))


def _tell(mine: dict[int, Any], wanted) -> list[Any]:
  """Sets this process's values, and waits for the wanted ones."""
  global _told
  _told += 1  # the same everywhere, since all do the same
  for process, value in mine.items():
    _client().key_value_set(f"ppseg_jax/{_told}/{process}", json.dumps(value))
  return [
      json.loads(_client().blocking_key_value_get(
          f"ppseg_jax/{_told}/{process}", _FOREVER
      )) for process in wanted
  ]


def whole(array: Any) -> np.ndarray:
  """All of an array, wherever its parts lie; called in all processes."""
  if not getattr(array, "is_fully_addressable", True):
    array = multihost_utils.process_allgather(array, tiled=True)
  return np.asarray(array)


def check_one_file_system(folder: Path) -> None:
  """Raises UserError where not all processes see the folder, which it makes."""
  def write() -> str:
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / f".{secrets.token_hex(8)}"
    token.touch()
    return token.name

  if not several():
    return
  token = folder / once(write)
  until = time.monotonic() + 10  # what a network file system may lag behind
  while not (seen := token.exists()) and time.monotonic() < until:
    time.sleep(0.1)
  blind = [
      f"process {process} on {host}"
      for process, (host, seen) in enumerate(
          gather([socket.gethostname(), seen])
      ) if not seen
  ]
  if first():
    token.unlink()
  if blind:
    raise UserError(
        f"workdir '{folder}' of process 0 is not seen by {', '.join(blind[:3])}"
        f"{' and others' if len(blind) > 3 else ''}; give a --workdir on a file"
        " system that all of them share."
    )


def together(body: Callable[[], int], answer: Callable) -> int:
  """The exit code of `body`, which all processes run.

  Where it fails in one of them, this prints why, once, and ends with its own
  exit code; the others end with 2 within seconds.

  Args:
    body: raises what went wrong.
    answer: `command.answer`.
  """
  failed = False

  def one() -> int:
    nonlocal failed
    try:
      return body()
    except Stopped:
      if first():
        raise
      raise SystemExit(143) from None
    except BaseException:
      failed = True
      if not _claim():  # it is being said elsewhere
        raise SystemExit(2) from None
      raise

  try:
    code = answer(one)
  except BaseException:
    traceback.print_exc()
    code = 1
  if failed:
    _leave(code)
  return code


def _claim() -> bool:
  """Tells all that this process failed; False if another was faster."""
  try:
    _client().key_value_set(_FAILED, str(jax.process_index()))
    return True
  except jax.errors.JaxRuntimeError:
    return False


def _watch() -> None:
  """Ends this process where another fails, whatever it is waiting for."""
  while True:
    time.sleep(_POLL)
    try:
      if int(_client().key_value_try_get(_FAILED)) != jax.process_index():
        break
    except (AttributeError, jax.errors.JaxRuntimeError):
      pass  # none has; or all is over
  time.sleep(_GRACE)
  _leave(2)


def _leave(code: int) -> None:
  """Ends this process without the wait for all that jax ends with.

  Process 0 is the last: without it the others are aborted.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  try:
    _client().key_value_set(f"{_GONE}/{jax.process_index()}", "", True)
    until = time.monotonic() + _WAIT
    while first() and time.monotonic() < until and (
        len(_client().key_value_dir_get(_GONE)) < jax.process_count()
    ):
      time.sleep(0.1)
  finally:
    os._exit(code)
