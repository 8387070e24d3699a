import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppseg_jax.data.labels import VOID
from ppseg_jax.metrics import confusion, summarise

NAMES = ("a", "b", "c", "d")


def reference(labels, predictions):
  """IoU by class and pixel accuracy, straight from their definitions."""
  counted = labels != VOID
  iou = {}
  for k, name in enumerate(NAMES):
    truth, guess = (labels == k) & counted, (predictions == k) & counted
    union = (truth | guess).sum()
    iou[name] = (truth & guess).sum() / union if union else None
  return iou, (labels == predictions)[counted].mean()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.9))
def test_figures_equal_a_plain_numpy_reference(seed, void_share):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, (2, 5, 7)).astype(np.uint8)  # "d" never occurs
  labels[rng.random(labels.shape) < void_share] = VOID
  labels[0, 0, 0] = 1
  predictions = rng.integers(0, 4, (2, 5, 7)).astype(np.uint8)
  result = summarise(confusion(labels, predictions, 4), NAMES)
  iou, accuracy = reference(labels, predictions)
  assert result["class_iou"] == pytest.approx(iou)
  present = [value for value in iou.values() if value is not None]
  assert result["miou"] == pytest.approx(np.mean(present))
  assert result["pixel_accuracy"] == pytest.approx(accuracy)


def test_void_counts_nowhere_and_absent_class_is_left_out():
  labels = np.array([[[0, 0, 1, VOID, VOID]]], np.uint8)
  predictions = np.array([[[0, 1, 1, 2, 3]]], np.uint8)
  matrix = np.asarray(confusion(labels, predictions, 4))
  assert matrix.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0] * 4, [0] * 4]
  result = summarise(matrix, NAMES)
  assert result["class_iou"] == {"a": 0.5, "b": 0.5, "c": None, "d": None}
  assert result["miou"] == 0.5
  assert result["pixel_accuracy"] == pytest.approx(2 / 3)
  assert result["mean_accuracy"] == pytest.approx(0.75)


def test_class_only_predicted_counts_as_zero():
  result = summarise(np.array([[3, 1], [0, 0]]), ("a", "b"))
  assert result["class_iou"] == {"a": 0.75, "b": 0.0}
  assert result["miou"] == pytest.approx(0.375)


def test_nothing_counted_gives_none():
  result = summarise(np.zeros((2, 2), int), ("a", "b"))
  assert result["miou"] is None and result["pixel_accuracy"] is None


def test_counts_beyond_32_bits_stay_exact():
  result = summarise(np.array([[2**40, 0], [2**40, 0]]), ("a", "b"))
  assert result["class_iou"]["a"] == 0.5
