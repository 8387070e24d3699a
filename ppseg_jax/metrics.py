"""Segmentation metrics of confusion matrices (PASCAL VOC's definitions).

What is counted on the device is a few numbers an image; the figures are made of
them on the host. docs/metrics.md says what each figure is.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.data.labels import VOID

# Of `summarise`, a fraction each.
FIGURES = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou",
           "mean_dice")

_RESAMPLES = 2000  # of the bootstrap
_AT_ONCE = 100  # of them, which bounds the memory
_BAND = 0.02  # of the diagonal: width of the band of boundary IoU


def confusion(
    labels: jax.Array, predictions: jax.Array, num_classes: int
) -> jax.Array:
  """Counts of (label, prediction), int32 [K, K]; void labels count nowhere.

  Args:
    labels: int [B, H, W], train ids or VOID.
    predictions: int [B, H, W], train ids.
    num_classes: K.
  """
  return confusion_by_image(labels, predictions, num_classes).sum(0)


def confusion_by_image(
    labels: jax.Array, predictions: jax.Array, num_classes: int
) -> jax.Array:
  """As `confusion`, for each image, int32 [B, K, K]."""
  # Void goes to a cell of its own behind the matrix, and is cut off.
  cells = num_classes**2 + 1

  def count(labels, predictions):
    cell = labels.astype(jnp.int32) * num_classes + predictions
    cell = jnp.where(labels == VOID, num_classes**2, cell)
    return jnp.bincount(cell.ravel(), length=cells)

  counts = jax.vmap(count)(labels, predictions)
  return counts[:, :-1].reshape(-1, num_classes, num_classes)


def hits_and_unions(matrix: jax.Array) -> jax.Array:
  """What IoU is the quotient of, by class: [..., K, K] -> [..., 2, K]."""
  hits = jnp.diagonal(matrix, axis1=-2, axis2=-1)
  union = matrix.sum(-1) + matrix.sum(-2) - hits
  return jnp.stack([hits, union], -2)


def band_width(height: int, width: int) -> int:
  """Of boundary IoU, in pixels: 2 % of the diagonal, and 1 at least."""
  return max(1, round(_BAND * math.hypot(height, width)))


def boundary_hits_and_unions(
    labels: jax.Array, predictions: jax.Array, num_classes: int
) -> jax.Array:
  """As `hits_and_unions`, of the inner bands of masks, int32 [2, K], summed.

  Boundary IoU (Cheng et al., CVPR 2021, equation 2): of each mask there counts
  the band that erosion by a square of 2d + 1 pixels takes away, d as of
  `band_width`; beyond the image there is no mask. Void ends both masks, so that
  a prediction need not know where the annotation stops.

  Args:
    labels: int [B, H, W], train ids or VOID.
    predictions: int [B, H, W], train ids.
    num_classes: K.
  """
  distance = band_width(*labels.shape[1:])
  predictions = jnp.where(labels == VOID, VOID, predictions)

  def banded(ids):  # K where no mask's band is
    inside = (ids != VOID) & in_band(ids, distance)
    return jnp.where(inside, ids, num_classes)

  counts = confusion(
      banded(labels.astype(jnp.int32)), banded(predictions.astype(jnp.int32)),
      num_classes + 1,
  )
  return hits_and_unions(counts)[:, :num_classes]


def in_band(ids: jax.Array, distance: int) -> jax.Array:
  """Where erosion of its own id's mask takes a pixel away, bool [B, H, W].

  A pixel stays where the square of 2 * distance + 1 pixels around it holds one
  id only: one minimum and one maximum do for all classes.

  Args:
    ids: int [B, H, W], 0 to 255.
    distance: in pixels.
  """
  edges = ((0, 0), (distance, distance), (distance, distance))
  padded = jnp.pad(ids.astype(jnp.int16), edges, constant_values=-1)

  def extreme(x, pick):
    for axis in (1, 2):
      x = _running(x, 2 * distance + 1, axis, pick)
    return x

  return extreme(padded, jnp.minimum) != extreme(padded, jnp.maximum)


def _running(x: jax.Array, size: int, axis: int, pick) -> jax.Array:
  """Minimum or maximum of each `size` neighbours, by doubling the reach."""
  reach = 1
  while reach < size:
    step = min(reach, size - reach)
    stop = x.shape[axis]
    x = pick(jax.lax.slice_in_dim(x, 0, stop - step, axis=axis),
             jax.lax.slice_in_dim(x, step, stop, axis=axis))
    reach += step
  return x


def summarise(matrix: np.ndarray, names: tuple[str, ...]) -> dict:
  """The figures that follow from a confusion matrix.

  Args:
    matrix: int64 [K, K], rows are labels, columns predictions.
    names: of the K classes.

  Returns:
    `miou`, `pixel_accuracy`, `mean_accuracy`, `frequency_weighted_iou` and
    `mean_dice` as fractions, `class_iou` and `class_dice` by name. A class
    absent from both labels and predictions has None and does not count in
    `miou` and `mean_dice`; one without labels does not count in
    `mean_accuracy`. With no counted pixel at all the fractions are None.
  """
  matrix = np.asarray(matrix, np.int64)
  hits = np.diag(matrix)
  labelled, predicted = matrix.sum(1), matrix.sum(0)
  union = labelled + predicted - hits
  iou, dice = _ratio(hits, union), _ratio(2 * hits, labelled + predicted)
  pixels = int(matrix.sum())
  figures = {
      "miou": iou[union > 0].mean(),
      "pixel_accuracy": hits.sum() / pixels,
      "mean_accuracy": _ratio(hits, labelled)[labelled > 0].mean(),
      "frequency_weighted_iou": (labelled * iou).sum() / pixels,
      "mean_dice": dice[union > 0].mean(),
  } if pixels else dict.fromkeys(FIGURES)
  return {
      **{name: value if value is None else float(value)
         for name, value in figures.items()},
      "class_iou": _by_name(iou, union > 0, names),
      "class_dice": _by_name(dice, union > 0, names),
  }



def boundary(counts: np.ndarray, names: tuple[str, ...]) -> dict:
  """`boundary_iou` and `class_boundary_iou` of counts int64 [2, K], summed.

  None where a class occurs nowhere, and where none does.
  """
  hits, union = np.asarray(counts, np.int64)
  iou = _ratio(hits, union)
  return {
      "boundary_iou": float(iou[union > 0].mean()) if union.any() else None,
      "class_boundary_iou": _by_name(iou, union > 0, names),
  }


def spread(counts: np.ndarray) -> dict:
  """How much a split's mIoU depends on the images that are in it.

  Args:
    counts: int64 [N, 2, K], `hits_and_unions` of each image.

  Returns:
    `miou_interval`, [low, high] within which lie 95 % of the mIoUs of 2,000
    resamples of N images with replacement (percentile bootstrap; Efron and
    Tibshirani 1993, chapter 13), and `image_miou`, [mean, sample standard
    deviation] of the mIoU of single images, each over the classes that occur in
    it. None with fewer than two images that have a counted pixel, which are
    those that are resampled.
  """
  counts = np.asarray(counts, np.float64)
  counts = counts[counts[:, 1].any(1)]
  size = len(counts)
  if size < 2:
    return {"miou_interval": None, "image_miou": None}
  alone = _miou(counts)
  rng = np.random.default_rng(0)
  found = []
  for _ in range(0, _RESAMPLES, _AT_ONCE):
    times = rng.multinomial(size, np.full(size, 1 / size), _AT_ONCE)
    sums = times @ counts.reshape(size, -1)  # exact: below 2**53
    found.append(_miou(sums.reshape(_AT_ONCE, *counts.shape[1:])))
  low, high = np.percentile(np.concatenate(found), [2.5, 97.5])
  return {
      "miou_interval": [float(low), float(high)],
      "image_miou": [float(alone.mean()), float(alone.std(ddof=1))],
  }


def _miou(counts: np.ndarray) -> np.ndarray:
  """[n, 2, K] -> [n]; every row has some class."""
  present = counts[:, 1] > 0
  return _ratio(counts[:, 0], counts[:, 1]).sum(1) / present.sum(1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
  return np.divide(part, whole, out=np.zeros(whole.shape), where=whole > 0)


def _by_name(
    values: np.ndarray, counted: np.ndarray, names: tuple[str, ...]
) -> dict[str, float | None]:
  return {
      name: float(value) if there else None
      for name, value, there in zip(names, values, counted, strict=True)
  }
