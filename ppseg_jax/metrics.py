"""Segmentation metrics of a confusion matrix (PASCAL VOC's definitions)."""

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.data.labels import VOID


def confusion(
    labels: jax.Array, predictions: jax.Array, num_classes: int
) -> jax.Array:
  """Counts of (label, prediction), int32 [K, K]; void labels count nowhere.

  Args:
    labels: int [B, H, W], train ids or VOID.
    predictions: int [B, H, W], train ids.
    num_classes: K.
  """
  labels = labels.astype(jnp.int32)
  cell = labels * num_classes + predictions.astype(jnp.int32)
  # Void goes to a cell of its own behind the matrix, and is cut off.
  cell = jnp.where(labels == VOID, num_classes**2, cell)
  counts = jnp.bincount(cell.ravel(), length=num_classes**2 + 1)
  return counts[:-1].reshape(num_classes, num_classes)


def summarise(matrix: np.ndarray, names: tuple[str, ...]) -> dict:
  """mIoU, accuracies and per-class IoU of a confusion matrix.

  Args:
    matrix: int64 [K, K], rows are labels, columns predictions.
    names: of the K classes.

  Returns:
    `miou`, `pixel_accuracy`, `mean_accuracy` as fractions, and `class_iou` by
    name. A class absent from both labels and predictions has IoU None and does
    not count in `miou`; one without labels does not count in `mean_accuracy`.
    With no counted pixel at all the fractions are None.
  """
  matrix = np.asarray(matrix, np.int64)
  hits = np.diag(matrix)
  labelled, predicted = matrix.sum(1), matrix.sum(0)
  union = labelled + predicted - hits
  iou = np.divide(hits, union, out=np.zeros(len(hits)), where=union > 0)
  recall = np.divide(
      hits, labelled, out=np.zeros(len(hits)), where=labelled > 0
  )
  pixels = int(matrix.sum())
  return {
      "miou": float(iou[union > 0].mean()) if pixels else None,
      "pixel_accuracy": float(hits.sum() / pixels) if pixels else None,
      "mean_accuracy": float(recall[labelled > 0].mean()) if pixels else None,
      "class_iou": {
          name: float(value) if counted else None
          for name, value, counted in zip(names, iou, union > 0, strict=True)
      },
  }
