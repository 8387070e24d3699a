"""A run's folder: where things lie, what may change, who may write."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
from tensorboardX import SummaryWriter

from ppseg_jax import __version__, distributed, files
from ppseg_jax.errors import UserError
from ppseg_jax.fields import UNSTORED

try:
  import fcntl
except ImportError:  # not POSIX
  fcntl = None

# Fields that change neither the training nor its result: a run may go on under
# other values.
_FREE = ("mesh.", "log_every", "panels", "predict.", "data.dir", "data.cache",
         "refine.", "eval.boundary")

# Fields that matter to training only: a trained model may be used under others.
TRAINING = ("steps", "batch_size", "accumulate", "checkpoint_every", "loss.",
            "optim.", "eval.", "seed", "setting", "key_plan", "clients",
            "start.", "private.", "data.name", "data.val_share", "data.resize",
            "data.height", "data.width", "data.flip", "data.scale_",
            "data.photometric", "data.train_images", "data.val_images",
            "data.more", "model.remat", "model.dtype", "model.aux_weight",
            "model.drop_path", "model.dropout", "model.pretrained")

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy",
             "scipy", "pillow", "ml-collections")


def _at(name: str) -> property:
  return property(lambda self: self.path / name)


@dataclasses.dataclass(frozen=True)
class Workdir:
  """Where in a run's folder what lies."""

  path: Path

  config = _at("config.json")
  versions = _at("versions.json")
  data = _at("data.json")  # what the data was
  class_weights = _at("class_weights.json")  # that were made from the data
  start = _at("start.json")  # the run it started from
  pretrained = _at("pretrained.json")  # what was read of a weight file
  metrics = _at("metrics.jsonl")
  events = _at("events")
  checkpoints = _at("checkpoints")
  result = _at("result.json")
  panels = _at("panels")
  refiner = _at("refine.npz")
  exported_refiner = _at("refiner.safetensors")  # for clients
  weights = _at("model.safetensors")
  predictions = _at("predict")
  lock = _at("lock")

  def test(self, name: str) -> tuple[Path, Path]:
    """(record, folder of panels) of a test, see `record.name_of`."""
    return self.path / f"eval_{name}.json", self.path / f"panels_{name}"

  def refinement(self, variant: str) -> tuple[Path, Path]:
    """(record, folder of panels) of a way to refine."""
    name = f"refine_{variant}"
    return self.path / f"{name}.json", self.path / f"panels_{name}"

  def forget(self) -> None:
    """Removes what a start wrote before anything was trained."""
    for path in (self.config, self.versions, self.data, self.class_weights,
                 self.start, self.pretrained, self.metrics):
      path.unlink(missing_ok=True)
    shutil.rmtree(self.events, ignore_errors=True)
    if self.checkpoints.exists():
      self.checkpoints.rmdir()

  def records(self) -> list[Path]:
    """The records that are there."""
    paths = [self.result, *sorted(self.path.glob("eval_*.json")),
             *sorted(self.path.glob("refine_*.json"))]
    return [path for path in paths if path.exists()]

  @contextlib.contextmanager
  def held(self) -> Iterator[None]:
    """Makes the folder, and holds it against another run until the end.

    Of several processes that are one run, the first does.
    """
    with contextlib.ExitStack() as stack:
      distributed.once(lambda: stack.enter_context(self._locked()))
      yield

  @contextlib.contextmanager
  def _locked(self) -> Iterator[None]:
    """The lock is the operating system's, on an open file.

    That of a process that died is free. A folder in which nothing but the lock
    is left goes with it. Raises UserError where another run holds it.
    """
    fd = self._lock()
    try:
      yield
    finally:
      if os.listdir(self.path) == [self.lock.name]:
        self.lock.unlink()
        self.path.rmdir()
      os.close(fd)

  def _lock(self) -> int:
    """An open file, locked, that is still the folder's."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    while True:
      self.path.mkdir(parents=True, exist_ok=True)
      fd = os.open(self.lock, flags, 0o600)
      try:
        if fcntl is not None:
          fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        os.close(fd)
        raise UserError(
            f"workdir '{self.path}' is in use by a run that has not ended; wait"
            " for it, or give another --workdir."
        ) from None
      except OSError as error:  # a file system without locks
        print(f"warning: {self.path} cannot be locked ({error.strerror}): do"
              " not start two runs in it.", file=sys.stderr)
      try:
        if os.path.samestat(os.fstat(fd), os.stat(self.lock)):
          return fd
      except FileNotFoundError:
        pass
      os.close(fd)  # another run left, and took its folder with it


def write_json(path: Path, value: dict) -> None:
  """Writes JSON whole or not at all; ValueError for NaN and infinity."""
  files.write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict:
  """The value of a JSON file; UserError where it is not valid JSON."""
  try:
    return json.loads(path.read_text())
  except ValueError:
    raise UserError(
        f"{path} is not valid JSON; mend it or give another --workdir."
    ) from None


def average_decay(folder: Path) -> float:
  """`optim.ema` of the workdir's run; 0 where it keeps no averages."""
  path = Workdir(folder).config
  config = read_json(path) if path.exists() else {}
  return config.get("optim", {}).get("ema", 0.0)


def flatten(config: dict, prefix: str = "") -> dict:
  """{'a': {'b': 1}} -> {'a.b': 1}."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, dict):
      flat |= flatten(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = list(value) if isinstance(value, tuple) else value
  return flat


def check_config(
    folder: Path, config: dict, ignore: tuple[str, ...] = ()
) -> None:
  """Raises UserError where the workdir was made with another config.

  Names the first fields that differ; those of `ignore` (or beginning with one
  of them) may. A workdir without a config passes.
  """
  path = Workdir(folder).config
  if not path.exists():
    return
  found = differing(read_json(path), config, ignore)
  if found:
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    raise UserError(
        f"workdir '{folder}' holds a run of another config:"
        f" {', '.join(found[:3])}{more}; give another --workdir or the config"
        " it was made with."
    )


def differing(
    old: dict, new: dict, ignore: tuple[str, ...] = (),
    matter: tuple[str, ...] = (),
) -> list[str]:
  """A phrase for each field of two configs that differs.

  Not for those that begin like one of `ignore`, nor for those that change no
  result, unless they begin like one of `matter`. What a config lacks of
  `fields.UNSTORED` is as it is there.
  """
  unstored = flatten(UNSTORED)
  old, new = unstored | flatten(old), unstored | flatten(new)
  free = tuple(name for name in _FREE if name not in matter)
  for config in (old, new):  # where it lies is free, whether there is one not
    if config.get("start.workdir"):
      config["start.workdir"] = "a run"
  return [
      f"{name} is {old.get(name, 'absent')} there and"
      f" {new.get(name, 'absent')} now"
      for name in sorted(old.keys() | new.keys())
      if old.get(name) != new.get(name)
      and not name.startswith(free + ignore)
  ]


def _revision() -> str | None:
  """Of the repository that this very file is tracked in, if there is one.

  Installed, the package may lie inside somebody else's.
  """
  here = Path(__file__)

  def git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=here.parent, capture_output=True, text=True,
        check=True,
    ).stdout.strip()

  try:
    git("ls-files", "--error-unmatch", here.name)
    return git("describe", "--always", "--dirty", "--abbrev=40")
  except (OSError, subprocess.CalledProcessError):
    return None


def versions() -> dict:
  """Versions of everything a result depends on, and the devices."""
  return {
      "ppseg_jax": __version__,
      "git": _revision(),
      "python": platform.python_version(),
      **{name: importlib.metadata.version(name) for name in _PACKAGES},
      "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
  }


class Recorder:
  """Metrics by step, as JSON lines and TensorBoard events.

  On a restart the records of steps that will be done again are dropped, so
  that both files read as if the run had never stopped. Only process 0 writes.

  Args:
    run: where.
    first_step: steps done before.
    miou: by the step it was measured at; kept up here.
  """

  def __init__(self, run: Workdir, first_step: int, miou: dict[int, float]):
    self._active = distributed.first()
    self._miou = miou
    kept = []
    if run.metrics.exists():
      for line in run.metrics.read_text().splitlines():
        try:
          record = json.loads(line)
        except ValueError:
          break  # the line that a killed process was writing
        if record["step"] <= first_step:
          kept.append(line + "\n")
          if "miou" in record:
            miou[record["step"]] = record["miou"]
    distributed.gather(None)  # all have read it
    if not self._active:
      return
    files.write_text(run.metrics, "".join(kept))
    self._file = run.metrics.open("a", buffering=1)
    self._events = SummaryWriter(str(run.events), purge_step=first_step + 1)

  def write(self, step: int, values: dict[str, float]) -> None:
    if "miou" in values:
      self._miou[step] = values["miou"]
    if not self._active:
      return
    line = json.dumps({"step": step, **values}, allow_nan=False)
    self._file.write(line + "\n")
    for name, value in values.items():
      self._events.add_scalar(name, value, step)

  def close(self) -> None:
    if self._active:
      self._file.close()
      self._events.close()
