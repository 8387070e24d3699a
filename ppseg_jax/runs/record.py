"""A record: figures of a test, what they come from, and how to repeat it."""

import dataclasses
import re
import zlib
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from ppseg_jax import metrics
from ppseg_jax.data import encrypted
from ppseg_jax.data.labels import LabelSpace
from ppseg_jax.encryption import get_scheme
from ppseg_jax.errors import UserError
from ppseg_jax.runs import checkpoints, workdir


@dataclasses.dataclass(frozen=True)
class Record:
  """What is known of a test, written as one JSON file.

  Attributes:
    miou: fraction, None where no pixel counts; likewise `pixel_accuracy`,
      `mean_accuracy`, `frequency_weighted_iou` and `mean_dice`.
    class_iou: by class name; None for a class that does not occur; likewise
      `class_dice`.
    images: how many were tested on; likewise `pixels`, those that count.
    confusion: counts [K][K], rows are labels, columns predictions.
    miou_interval: [low, high], see `metrics.spread`; likewise `image_miou`.
      None where there are too few images, or the record says nothing of it.
    image_miou: see above.
    boundary_iou: see `metrics.boundary`; None where it was not counted.
    class_boundary_iou: by class name; empty where it was not counted.
    protocol: what a reader needs to measure the same figures again.
    config: of the test.
    versions: of everything the figures depend on.
  """

  miou: float | None
  pixel_accuracy: float | None
  mean_accuracy: float | None
  frequency_weighted_iou: float | None
  mean_dice: float | None
  class_iou: dict[str, float | None]
  class_dice: dict[str, float | None]
  images: int
  pixels: int
  confusion: list[list[int]]
  miou_interval: list[float] | None = None
  image_miou: list[float] | None = None
  boundary_iou: float | None = None
  class_boundary_iou: dict[str, float | None] = dataclasses.field(
      default_factory=dict
  )
  protocol: dict[str, Any] = dataclasses.field(default_factory=dict)
  config: dict[str, Any] = dataclasses.field(default_factory=dict)
  versions: dict[str, str | None] = dataclasses.field(default_factory=dict)

  def figures(self) -> dict[str, float]:
    """Those that curves and the best checkpoint need, as numbers."""
    return {"miou": self.miou or 0.0,
            "pixel_accuracy": self.pixel_accuracy or 0.0}

  def described(
      self, protocol: dict, config: ml_collections.ConfigDict
  ) -> "Record":
    """The same figures with what they were measured under."""
    return dataclasses.replace(
        self, protocol=protocol, config=config.to_dict(),
        versions=workdir.versions(),
    )


def of_counts(
    matrix: np.ndarray, space: LabelSpace, images: int, by_image: np.ndarray,
    boundary: np.ndarray | None = None,
) -> Record:
  """The figures of what was counted.

  Args:
    matrix: confusion matrix, int64 [K, K].
    space: of the labels.
    images: how many were tested on.
    by_image: of each, [N, 2, K], see `metrics.hits_and_unions`.
    boundary: [2, K], see `metrics.boundary_hits_and_unions`, or None.
  """
  return Record(
      **metrics.summarise(matrix, space.names), **metrics.spread(by_image),
      **({} if boundary is None else metrics.boundary(boundary, space.names)),
      images=images, pixels=int(matrix.sum()), confusion=matrix.tolist(),
  )


def write(path: Path, record: Record) -> None:
  """Writes the record whole or not at all."""
  workdir.write_json(path, dataclasses.asdict(record))


def read(path: Path) -> Record:
  """The record of a file.

  Figures that it lacks but that follow from its confusion matrix are filled in.

  Raises:
    FileNotFoundError: where there is none.
    UserError: where it is something else, or of a version with other fields.
  """
  value = workdir.read_json(path)
  try:
    known = metrics.summarise(value["confusion"], tuple(value["class_iou"]))
    return Record(**known | value)
  except (KeyError, TypeError, ValueError):  # of whatever else is in a file
    raise UserError(
        f"{path} is no record of this version of ppseg_jax; measure it again in"
        " another --workdir."
    ) from None


def protocol(
    config: ml_collections.ConfigDict, step: int, variables: dict, decay: float
) -> dict:
  """What a reader needs to measure the same figures again.

  Args:
    config: of the test.
    step: that the variables are of.
    variables: `params` and `batch_stats`.
    decay: of the averages that they are; 0: they are no averages.
  """
  data = config.data
  tested = config.eval.data_name or data.name
  contributed = tested == encrypted.NAME
  moved = contributed and encrypted.moves_blocks(config.eval.scheme)
  whole = config.eval.whole or (
      (data.crop_height, data.crop_width) == (data.height, data.width)
      and data.resize == "exact"
  )
  return {
      "data": tested,
      "split": "val" if config.eval.split == "val"
               else f"train, left out {data.leave_out}",
      "input_size": [data.height, data.width],
      "resize": data.resize,
      "counted_at": "blocks" if moved else config.eval.at,
      "class_map": config.eval.map,
      "inference": "whole" if whole else
                   f"windows {data.crop_height}x{data.crop_width}, stride"
                   f" {config.eval.stride}",
      "scheme": config.eval.scheme,
      "block": config.block,
      "private": dict(config.private) if config.private.pixels else None,
      "key_plan": "the clients' own" if contributed else config.eval.key_plan,
      "keys_seed": None if contributed else config.seed,
      "trained_scheme": config.scheme,
      "trained_by": config.setting,
      "adapted": config.eval.adapt,
      "embed": config.model.embed,
      "form": config.model.form,
      "weights": f"averaged, decay {decay}" if decay else "of the last step",
      "step": step,
      "checkpoint_sha256": checkpoints.digest(variables),
  }


def name_of(config: ml_collections.ConfigDict) -> str:
  """What a test's files are called by: scheme, key plan and so on.

  What is as in training is left out, and so is a test of all images.
  """
  plan = config.eval.key_plan
  return "_".join(filter(None, (
      get_scheme(config.eval.scheme).name,  # which may be FILE.py:NAME
      plan if plan != config.key_plan else "",
      "adapted" if config.eval.adapt else "",
      config.eval.split if config.eval.split != "val" else "",
      "whole" if config.eval.whole else "",
      _noise(config.private),
      "original" if config.eval.at == "original" else "",
      _other_data(config.eval),
      f"{config.eval.images}images" if config.eval.images else "",
  )))


def _noise(private: ml_collections.ConfigDict) -> str:
  """Names the noise in the images; '' for none."""
  if not private.pixels:
    return ""
  spent = (f"epsilon{private.epsilon:g}" if private.epsilon
           else f"rho{private.rho:g}")
  form = f"b{private.bits}" if private.bits else f"q{private.groups}"
  return f"{private.pixels}pixels_{spent}_{form}"


def _other_data(test: ml_collections.ConfigDict) -> str:
  """Names a test on other data than the training's; '' for its own."""
  name = test.data_name
  if name == "folder":
    name = Path(test.data_dir).resolve().name
  if name == encrypted.NAME:
    name = "_".join(folder.resolve().name
                    for folder in encrypted.folders_of(test.data_dir))
  name = re.sub("[/:]", "_", name)  # of tfds:NAME/CONFIG
  by = f"_by{zlib.crc32(test.map.encode()):08x}" if test.map else ""
  return f"on_{name}{by}" if name else ""
