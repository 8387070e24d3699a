"""What a run leaves behind: config, versions, metrics, results."""

import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path

import jax
from tensorboardX import SummaryWriter

from ppseg_jax import __version__, files
from ppseg_jax.errors import UserError

# Fields that change neither the training nor its result: a run may go on under
# other values.
_FREE = ("mesh.", "log_every", "panels", "predict.", "data.dir", "data.cache",
         "refine.")

# Fields that matter to training only: a trained model may be used under others.
TRAINING = ("steps", "batch_size", "accumulate", "checkpoint_every", "loss.",
            "optim.", "eval.", "seed", "key_plan", "clients", "start.",
            "data.name", "data.height", "data.width", "data.flip",
            "data.scale_", "data.photometric", "data.train_images",
            "data.val_images", "model.remat", "model.dtype",
            "model.aux_weight", "model.drop_path", "model.dropout",
            "model.pretrained")

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy",
             "scipy", "pillow", "ml-collections")


def write_json(path: Path, value: dict) -> None:
  """Writes JSON whole or not at all."""
  files.write_text(path, json.dumps(value, indent=2) + "\n")


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
  path = folder / "config.json"
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
    workdir: Path, config: dict, ignore: tuple[str, ...] = ()
) -> None:
  """Raises UserError where the workdir was made with another config.

  Names the first fields that differ; those of `ignore` (or beginning with one
  of them) may. A workdir without a config passes.
  """
  path = workdir / "config.json"
  if not path.exists():
    return
  found = differing(read_json(path), config, ignore)
  if found:
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    raise UserError(
        f"workdir '{workdir}' holds a run of another config:"
        f" {', '.join(found[:3])}{more}; give another --workdir or the config"
        " it was made with."
    )


def differing(
    old: dict, new: dict, ignore: tuple[str, ...] = (),
    matter: tuple[str, ...] = (),
) -> list[str]:
  """A phrase for each field of two configs that differs.

  Not for those that begin like one of `ignore`, nor for those that change no
  result, unless they begin like one of `matter`.
  """
  old, new = flatten(old), flatten(new)
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
  """

  def __init__(self, workdir: Path, first_step: int):
    self._active = jax.process_index() == 0
    if not self._active:
      return
    path = workdir / "metrics.jsonl"
    kept = []
    if path.exists():
      for line in path.read_text().splitlines():
        try:
          record = json.loads(line)
        except ValueError:
          break  # the line that a killed process was writing
        if record["step"] <= first_step:
          kept.append(line + "\n")
    files.write_text(path, "".join(kept))
    self._file = path.open("a", buffering=1)
    self._events = SummaryWriter(
        str(workdir / "events"), purge_step=first_step + 1
    )

  def write(self, step: int, values: dict[str, float]) -> None:
    if not self._active:
      return
    self._file.write(json.dumps({"step": step, **values}) + "\n")
    for name, value in values.items():
      self._events.add_scalar(name, value, step)

  def close(self) -> None:
    if self._active:
      self._file.close()
      self._events.close()
