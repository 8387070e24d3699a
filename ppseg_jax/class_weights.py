"""Class weights from the labels that a model is trained on."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_collections
import numpy as np

from ppseg_jax.data.labels import VOID
from ppseg_jax.data.pipeline import Source
from ppseg_jax.errors import UserError
from ppseg_jax.runs import workdir


def count(source: Source) -> tuple[np.ndarray, np.ndarray]:
  """Pixels of each class, and pixels of the images that it is in.

  Void pixels count in neither. Reads the whole source once, in threads.

  Returns:
    int64 [K] and int64 [K].
  """
  classes = source.label_space.num_classes

  def one(index: int) -> np.ndarray:
    _, labels = source[index]
    return np.bincount(labels[labels != VOID], minlength=classes)

  pixels, around = np.zeros((2, classes), np.int64)
  with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
    for found in pool.map(one, range(len(source))):
      pixels += found
      around += np.where(found > 0, found.sum(), 0)
  return pixels, around


def median_frequency(pixels: np.ndarray, around: np.ndarray) -> np.ndarray:
  """Weights of Eigen and Fergus (ICCV 2015, section 6.3.1), float64 [K].

  A class's frequency is its pixels over the pixels of all images that it is in;
  its weight is the median frequency of the classes that occur over its own. A
  class that never occurs gets 1, which no pixel has.

  Args:
    pixels: of each class, int [K]; likewise `around`.
    around: of the images that it is in.
  """
  there = pixels > 0
  frequency = pixels[there] / around[there]
  weights = np.ones(len(pixels))
  weights[there] = np.median(frequency) / frequency
  return weights


METHODS = {"median_frequency": median_frequency}


def method_of(config: ml_collections.ConfigDict) -> str:
  """The method that `loss.class_weights` names; '' if it holds numbers."""
  weights = tuple(config.loss.class_weights)
  return weights[0] if len(weights) == 1 and weights[0] in METHODS else ""


def with_weights(
    config: ml_collections.ConfigDict, path: Path, source: Source
) -> ml_collections.ConfigDict:
  """The config with numbers in `loss.class_weights`, also where it names a way.

  Numbers that are made here are written to `path`, and read from there when the
  run goes on.

  Raises:
    UserError: where what is stored is of other classes, or no pixel has one.
  """
  method, names = method_of(config), source.label_space.names
  if not method:
    return config
  if path.exists():
    stored = workdir.read_json(path)
    weights = stored.get("weights", {})
    if stored.get("method") != method or tuple(weights) != names:
      raise UserError(
          f"{path} does not hold the weights of {method} for the classes of"
          f" '{source.label_space.name}'; give another --workdir."
      )
  else:
    pixels, around = count(source)
    if not pixels.any():
      raise UserError(
          f"loss.class_weights={method}: no pixel of the training images has a"
          " class, all are void; mend the labels."
      )
    found = METHODS[method](pixels, around)
    weights = dict(zip(names, found.tolist(), strict=True))
    workdir.write_json(path, {"method": method, "weights": weights})
  config = config.copy_and_resolve_references()
  config.loss.class_weights = tuple(weights.values())
  return config
