"""Measures stored figures again, and says where they differ."""

import dataclasses
import math
from pathlib import Path

import ml_collections
import numpy as np

from ppseg_jax import config as config_checks
from ppseg_jax import evaluate, metrics
from ppseg_jax.errors import UserError
from ppseg_jax.refine import fit
from ppseg_jax.runs import record, workdir
from ppseg_jax.runs.record import Record
from ppseg_jax.runs.workdir import Workdir

# Of a given config, what says how to compute and where the data lies: nothing
# that figures depend on.
_HERE = ("mesh", "data.dir", "data.cache")

# What a protocol that says nothing of it was.
_UNSAID = {"resize": "exact", "counted_at": "input", "class_map": ""}

# Figures that the confusion matrix does not tell.
_COUNTED = ("miou_interval", "image_miou", "boundary_iou", "class_boundary_iou")


def verify(
    folder: Path, given: ml_collections.ConfigDict | None = None
) -> bool:
  """Evaluates the stored checkpoint again for each record of the workdir.

  Each of `result.json`, `eval_*.json` and `refine_*.json` is measured again
  under the config it was measured under, and compared with what it says:
  protocol (the checkpoint's digest too), confusion matrix, the figures that
  follow from the matrix, and those that are counted besides.
  Prints a line or more for each record.

  Args:
    folder: the workdir.
    given: where the data lies and the mesh, if they are not as they were; in
      all else it must be the workdir's own config.

  Returns:
    Whether everything is equal.

  Raises:
    UserError: where there is no finished run.
  """
  paths = Workdir(folder).records()
  if not paths:
    raise UserError(
        f"workdir '{folder}' holds no result.json and no eval_*.json to verify;"
        " train with --mode=train or give another --workdir."
    )
  if given is not None:
    workdir.check_config(folder, given.to_dict(), ignore=("eval.",))
  equal = True
  for path in paths:
    stored = record.read(path)
    differences = compare(stored, _measure(folder, stored, given))
    print(f"{path.name}: {'DIFFERS' if differences else 'equal'},"
          f" {stored.images} images, {stored.pixels} pixels")
    for line in differences:
      print(f"  {line}")
    equal &= not differences
  return equal


def _measure(
    folder: Path, stored: Record, given: ml_collections.ConfigDict | None
) -> Record:
  """What the record would be if it were made now."""
  config = ml_collections.ConfigDict(stored.config)
  try:
    config_checks.fill_in(config)
  except (AttributeError, KeyError) as error:
    raise UserError(
        f"a record in '{folder}' is of another version of ppseg_jax, whose"
        f" configs differ ({error.args[0]}); verify it with that version."
    ) from None
  if given is not None:
    for field in _HERE:
      _copy(field, given, config)
    if given.eval.data_name and given.eval.data_name == config.eval.data_name:
      config.eval.data_dir = given.eval.data_dir
  variant = stored.protocol.get("refinement")
  if not variant:
    return evaluate.measure(config, folder)
  knobs = stored.protocol["refinement_filter"]
  return fit.remeasure(config, folder, knobs and tuple(knobs), variant)[variant]


def _copy(name: str, source, target) -> None:
  section, _, field = name.rpartition(".")
  if section:
    source, target = source[section], target[section]
  target[field] = source[field]


def compare(stored: Record, measured: Record) -> list[str]:
  """What differs between a stored and a measured record, a line each."""
  names = tuple(stored.class_iou)
  was, now = (_UNSAID | each.protocol for each in (stored, measured))
  lines = [
      f"protocol: {name} was {was.get(name)} and is {now.get(name)}"
      for name in sorted(was.keys() | now.keys())
      if was.get(name) != now.get(name)
  ]
  old = np.asarray(stored.confusion, np.int64)
  new = np.asarray(measured.confusion, np.int64)
  if old.shape != new.shape:
    return [*lines, f"confusion: {len(old)} classes were {len(new)}"]
  for name, was, now in zip(names, old, new, strict=True):
    if was.sum() != now.sum():
      lines.append(f"{name}: {was.sum()} pixels are stored and {now.sum()} are"
                   " labelled so")
    elif (was != now).any():
      moved = np.maximum(now - was, 0).sum()
      lines.append(f"{name}: {moved} of {was.sum()} pixels are predicted"
                   " otherwise than stored")
  lines += _counted_otherwise(stored, measured)
  said = workdir.flatten(dataclasses.asdict(stored))
  for name, value in workdir.flatten(metrics.summarise(old, names)).items():
    shown = said.get(name)
    if (shown is None) != (value is None) or (
        value is not None and not math.isclose(shown, value, rel_tol=1e-9)
    ):
      lines.append(f"{name}: {shown} is stored, but {value} follows from the"
                   " stored confusion matrix")
  if stored.pixels != old.sum():
    lines.append(f"pixels: {stored.pixels} are stored, but the stored"
                 f" confusion matrix counts {old.sum()}")
  return lines


def _counted_otherwise(stored: Record, measured: Record) -> list[str]:
  """What differs of the figures that are counted beside the matrix.

  What the stored record says nothing of is not looked at.
  """
  lines = []
  for field in _COUNTED:
    was, now = (
        workdir.flatten({field: getattr(record, field)})
        for record in (stored, measured)
    )
    for name, value in was.items():
      if value is not None and not _close(value, now.get(name)):
        lines.append(f"{name}: {value} is stored and {now.get(name)} measured")
  return lines


def _close(one: float | list[float], other: float | list[float] | None) -> bool:
  return other is not None and np.shape(one) == np.shape(other) and bool(
      np.allclose(one, other, rtol=1e-9, atol=0)
  )
