import jax
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ppseg_jax.data.labels import VOID
from ppseg_jax.metrics import (
    boundary_hits_and_unions,
    confusion,
    confusion_by_image,
    hits_and_unions,
    in_band,
    spread,
    summarise,
)

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
  counted = labels != VOID
  share = [(labels == k).sum() / counted.sum() for k in range(4)]
  weighted = sum(part * (iou[name] or 0)
                 for part, name in zip(share, NAMES, strict=True))
  assert result["frequency_weighted_iou"] == pytest.approx(weighted)
  # Dice is a function of IoU, class by class.
  dice = {name: value and 2 * value / (1 + value)
          for name, value in iou.items()}
  assert result["class_dice"] == pytest.approx(dice)
  present = [value for value in dice.values() if value is not None]
  assert result["mean_dice"] == pytest.approx(np.mean(present))


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
  assert result["mean_dice"] is None and result["class_dice"]["a"] is None
  nothing = {"miou_interval": None, "image_miou": None}
  assert spread(np.zeros((5, 2, 3))) == nothing
  assert spread(np.ones((1, 2, 3))) == nothing


def test_counts_beyond_32_bits_stay_exact():
  result = summarise(np.array([[2**40, 0], [2**40, 0]]), ("a", "b"))
  assert result["class_iou"]["a"] == 0.5


def test_counts_by_image_are_those_of_each_image_alone():
  rng = np.random.default_rng(0)
  labels = rng.choice([0, 1, 2, VOID], (3, 6, 5)).astype(np.uint8)
  predictions = rng.integers(0, 3, (3, 6, 5)).astype(np.uint8)
  together = confusion_by_image(labels, predictions, 3)
  for i in range(3):
    alone = confusion(labels[i : i + 1], predictions[i : i + 1], 3)
    np.testing.assert_array_equal(together[i], alone)
  hits, union = np.asarray(hits_and_unions(together))[0]
  found = summarise(together[0], NAMES[:3])["class_iou"]
  assert list(found.values()) == pytest.approx(list(hits / union))


def random_counts(images, classes, seed):
  """Hits and unions of images some of which are much better than others."""
  rng = np.random.default_rng(seed)
  union = rng.integers(0, 100, (images, classes))
  hits = (union * rng.random((images, 1)) ** 2).astype(int)
  return np.stack([hits, union], 1)


@pytest.mark.parametrize("images", [15, 60])
def test_interval_agrees_with_scipys_bootstrap(images):
  counts = random_counts(images, 3, images)

  def miou(chosen):
    hits, union = counts[chosen].sum(0)
    return (hits / union).mean()

  reference = scipy.stats.bootstrap(
      (np.arange(images),), miou, n_resamples=2000, vectorized=False,
      method="percentile", rng=np.random.default_rng(1),
  ).confidence_interval
  low, high = spread(counts)["miou_interval"]
  tolerance = 0.15 * (reference.high - reference.low)
  assert low == pytest.approx(reference.low, abs=tolerance)
  assert high == pytest.approx(reference.high, abs=tolerance)
  assert low < miou(np.arange(images)) < high


def test_spread_is_the_same_again_and_passes_over_images_without_a_pixel():
  counts = random_counts(8, 4, 0)
  void = np.concatenate([counts, np.zeros((3, 2, 4), int)])
  assert spread(counts) == spread(counts) == spread(void)
  alike = np.repeat(counts[:1], 5, 0)
  iou = counts[0, 0] / counts[0, 1]
  assert spread(alike)["miou_interval"] == pytest.approx([iou.mean()] * 2)
  assert spread(alike)["image_miou"] == pytest.approx([iou.mean(), 0])


def mask_to_boundary(mask, distance):
  """As in the authors' code, boundary_iou/utils/boundary_utils.py."""
  padded = np.pad(mask, 1)
  eroded = scipy.ndimage.binary_erosion(
      padded, np.ones((3, 3)), iterations=distance, border_value=1
  )[1:-1, 1:-1]
  return mask & ~eroded


def blobs(shape, seed):
  """A few ids in connected regions, uint8."""
  rng = np.random.default_rng(seed)
  smooth = scipy.ndimage.gaussian_filter(rng.normal(size=shape), (0, 4, 4))
  return np.digitize(
      smooth, np.quantile(smooth, [0.3, 0.6, 0.9])
  ).astype(np.uint8)


@pytest.mark.parametrize("shape", [(2, 61, 90), (2, 120, 161)])
def test_boundary_counts_agree_with_erosion_of_each_mask(shape):
  labels, predictions = blobs(shape, 0), blobs(shape, 1)
  predictions[:, : shape[1] // 2] = labels[:, : shape[1] // 2]
  labels[:, -9:, 20:] = VOID
  distance = max(1, round(0.02 * np.hypot(*shape[1:])))
  assert distance == (2 if shape[1] == 61 else 4)
  hits, unions = np.zeros(4, int), np.zeros(4, int)
  for truth, guess in zip(labels, predictions, strict=True):
    for k in range(4):
      one = mask_to_boundary(truth == k, distance)
      other = mask_to_boundary((guess == k) & (truth != VOID), distance)
      hits[k] += (one & other).sum()
      unions[k] += (one | other).sum()
  got = jax.jit(boundary_hits_and_unions, static_argnums=2)(
      labels, predictions, 4
  )
  np.testing.assert_array_equal(got, [hits, unions])
  assert (hits > 0).all() and (hits < unions).all()


def test_a_mask_that_fills_the_image_has_its_band_at_the_edge():
  band = np.asarray(in_band(np.zeros((1, 7, 9), np.uint8), 2))[0]
  assert band.sum() == 7 * 9 - 3 * 5 and not band[2:5, 2:7].any()
