"""Checkpoints with orbax: async, atomic, the last two and the best kept."""

import errno
import hashlib
import itertools
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from ppseg_jax import distributed, trees
from ppseg_jax.errors import UserError

_COMMIT = "commit_success.txt"  # what orbax writes last
_MACHINE = (errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EACCES)


class _Best:
  """Preserves the checkpoint of the highest mIoU, by step."""

  def __init__(self, miou: Mapping[int, float]):
    self._miou = miou

  def should_preserve(self, checkpoints, *, context) -> list[bool]:
    del context
    steps = [info.step for info in checkpoints if info.step in self._miou]
    best = max(steps, key=self._miou.__getitem__, default=None)
    return [info.step == best for info in checkpoints]


def open_manager(
    folder: Path, miou: Mapping[int, float] | None = None
) -> ocp.CheckpointManager:
  """The manager of a folder of checkpoints.

  Atomicity by commit file: a step's directory that a killed process left
  without its commit file is not taken for a checkpoint.

  Args:
    folder: of the checkpoints.
    miou: what was measured at which step by now; it grows while the manager is
      in use, after the step it belongs to was saved. None: nothing is written.
  """
  if miou is not None:
    distributed.once(lambda: _remove_unfinished(folder))
  options = ocp.CheckpointManagerOptions(
      preservation_policy=checkpoint_managers.AnyPreservationPolicy(
          [checkpoint_managers.LatestN(2), _Best({} if miou is None else miou)]
      ),
      atomicity_options=ocp.options.AtomicityOptions(
          mode=ocp.options.AtomicityMode.COMMIT_FILE
      ),
      create=miou is not None,
      read_only=miou is None,
  )
  # The handler is named so that shapes can be read before anything is loaded.
  return ocp.CheckpointManager(
      folder.absolute(), options=options,
      item_handlers=ocp.PyTreeCheckpointHandler(),
  )


def _remove_unfinished(folder: Path) -> None:
  """Removes what a killed process was writing; orbax would, but in a thread."""
  for path in folder.glob("*"):
    if path.is_dir() and not (path / _COMMIT).exists():
      shutil.rmtree(path)


def save(manager: ocp.CheckpointManager, step: int, state: dict) -> None:
  """Starts saving; returns once the state is copied off the devices."""
  manager.save(step, args=ocp.args.PyTreeSave(state))


def restore_latest(
    manager: ocp.CheckpointManager, abstract: dict, partial: bool = False,
    absent: Callable[[set[str]], frozenset[str]] = lambda names: frozenset(),
) -> tuple[int, dict] | None:
  """The newest checkpoint that can be read, as (step, state), or None.

  `abstract` has the shape, dtype and sharding of each array: the mesh may be
  another one than the checkpoint was written on. With `partial`, what
  `abstract` does not name (the optimizer's state) is not read; parameters and
  statistics must all be named, but for those that `absent` says, given the
  names of all in the checkpoint. A checkpoint that does not load is passed over
  for an older one, with a warning.

  Raises UserError where checkpoints exist but none can be read, or where they
  are of another model.
  """
  steps = distributed.once(lambda: sorted(manager.all_steps(), reverse=True))
  damaged = []
  for step in steps:
    state, failure = None, ("", "")
    try:
      saved = manager.item_metadata(step)
      if saved is not None:
        _check_same_model(step, saved, abstract, absent)
      args = ocp.args.PyTreeRestore(
          item=abstract,
          restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
          partial_restore=partial,
      )
      state = manager.restore(step, args=args)
    except UserError:
      raise
    except Exception as error:  # orbax raises many kinds for damaged files
      if _of_the_machine(error):
        raise
      failure = (type(error).__name__, (str(error).splitlines() or [""])[0])
    # One that does not load in one process is passed over by all.
    kind, why = max(distributed.gather(failure))
    if not kind:
      if not partial:  # a reader leaves everything where it is
        _move_aside(manager, damaged)
      return step, state
    if distributed.first():
      print(
          f"warning: checkpoint {step} in {manager.directory} does not load"
          f" ({kind}); trying an older one.", file=sys.stderr,
      )
    damaged.append(step)
  if steps:
    mend = "" if partial else "; remove the folder to start over"
    raise UserError(
        f"none of the checkpoints {steps} in {manager.directory} can be read"
        f" ({why}){mend}."
    )
  return None


def _of_the_machine(error: Exception) -> bool:
  """Whether a restore failed for want of memory or of the disk itself."""
  if isinstance(error, OSError):
    return error.errno in _MACHINE
  return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _move_aside(manager: ocp.CheckpointManager, steps: list[int]) -> None:
  """Out of the manager's folder: it skips saving a step that it finds there."""
  def move() -> None:
    for step in steps:
      folder = Path(manager.directory) / str(step)
      aside = folder.parent.parent / f"damaged-checkpoint-{step}"
      for number in itertools.count(2):
        if not aside.exists():
          break
        aside = aside.with_name(f"damaged-checkpoint-{step}-{number}")
      folder.rename(aside)

  if steps:
    distributed.once(move)
    manager.reload()


def _check_same_model(
    step: int, saved: dict, abstract: dict,
    absent: Callable[[set[str]], frozenset[str]],
) -> None:
  def shapes(tree):
    leaves = trees.named_leaves(tree)
    return {name: tuple(leaf.shape) for name, leaf in leaves.items()}

  saved = dict(saved)
  if "ema" in abstract and "ema" not in saved:
    raise UserError(
        f"checkpoint {step} holds no averaged weights; use optim.ema=0 for the"
        " weights of its last step."
    )
  parts = ("params", "batch_stats")
  wanted = abstract.get("ema", abstract)
  saved = shapes({name: saved.get(name, {}) for name in parts})
  wanted = shapes({name: wanted.get(name, {}) for name in parts})
  left_out = absent(set(saved))
  for name in sorted((saved.keys() | wanted.keys()) - left_out):
    if saved.get(name) != wanted.get(name):
      raise UserError(
          f"checkpoint {step} is of another model: {name} has shape"
          f" {saved.get(name, 'nothing')} there and"
          f" {wanted.get(name, 'nothing')} in this config; use the config it"
          " was trained with, or another --workdir."
      )


def digest(variables: dict) -> str:
  """SHA-256 of all values, in the order of their paths, as hex."""
  sha = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    sha.update(jax.tree_util.keystr(path).encode())
    sha.update(distributed.whole(leaf).tobytes())
  return sha.hexdigest()
