"""Class weights from the labels that a model is trained on."""

from concurrent.futures import ThreadPoolExecutor

import ml_collections
import numpy as np

from ppseg_jax.data import threads
from ppseg_jax.data.labels import VOID
from ppseg_jax.data.pipeline import Source


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
  with ThreadPoolExecutor(threads.count()) as pool:
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
