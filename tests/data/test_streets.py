"""The embedded street scenes: repeatable, complete, and not told by colour."""

import concurrent.futures

import numpy as np
import pytest

from ppseg_jax.data import labels, streets

HEIGHT, WIDTH = 96, 192
COLOUR_MIOU_BOUND = 0.09  # measured: at most 0.056


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
  return [streets.render(11, i, HEIGHT, WIDTH) for i in range(200)]


def test_a_scene_is_the_same_bytes_every_time_from_any_thread(scenes):
  picks = [*range(8), *range(8)]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    again = pool.map(lambda i: streets.render(11, i, HEIGHT, WIDTH), picks)
  for i, (image, label) in zip(picks, again, strict=True):
    np.testing.assert_array_equal(image, scenes[i][0])
    np.testing.assert_array_equal(label, scenes[i][1])


@pytest.mark.parametrize("other", [(11, 1), (12, 0), (0, 11)])
def test_another_seed_or_index_is_another_scene(scenes, other):
  image, label = streets.render(*other, HEIGHT, WIDTH)
  assert (label != scenes[0][1]).mean() > 0.1
  assert (image != scenes[0][0]).mean() > 0.5


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 64), (96, 128),
                                  (200, 40), (40, 200), (256, 512)])
def test_any_size_gives_images_and_cityscapes_train_ids(size):
  for index in range(3):
    image, label = streets.render(3, index, *size)
    assert image.dtype == label.dtype == np.uint8
    assert image.shape == (*size, 3)
    assert label.shape == size
    assert set(np.unique(label)) <= {*range(19), labels.VOID}
    assert image.flags["C_CONTIGUOUS"] and label.flags["C_CONTIGUOUS"]


def test_every_class_is_in_many_scenes(scenes):
  present = np.mean([np.bincount(label.ravel(), minlength=256) >= 20
                     for _, label in scenes], 0)
  names = labels.CITYSCAPES.names
  rare = {name: present[i] for i, name in enumerate(names)
          if present[i] < 0.1}
  assert not rare
  assert 0.1 < present[labels.VOID] < 0.95


def _miou(predicted: np.ndarray, truth: np.ndarray) -> float:
  counts = np.bincount(truth.astype(int) * 19 + predicted, minlength=361)
  counts = counts.reshape(19, 19)
  union = counts.sum(0) + counts.sum(1) - np.diag(counts)
  return float(np.mean(np.diag(counts) / np.maximum(union, 1)))


def _pixels(scenes) -> tuple[np.ndarray, np.ndarray]:
  """Colours, float64 [N, 4] with a constant, and classes; void left out."""
  image = np.concatenate([i.reshape(-1, 3) for i, _ in scenes]) / 255.0
  label = np.concatenate([x.ravel() for _, x in scenes])
  colours = np.c_[np.ones(len(image)), image]
  return colours[label != labels.VOID], label[label != labels.VOID]


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_the_colour_of_a_pixel_does_not_give_its_class(scenes, balance):
  x, y = _pixels(scenes[:100])
  weight = (1 / np.bincount(y, minlength=19) ** balance)[y]
  weighted = x * (weight / weight.mean())[:, None]
  solution = np.linalg.solve(weighted.T @ x, weighted.T @ np.eye(19)[y])
  x, y = _pixels(scenes[100:150])
  assert _miou((x @ solution).argmax(1), y) < COLOUR_MIOU_BOUND


def test_streets_are_the_scenes_of_their_seed(scenes):
  data = streets.Streets(11, 5, HEIGHT, WIDTH)
  assert len(data) == 5
  assert data.label_space is labels.CITYSCAPES
  np.testing.assert_array_equal(data[4][0], scenes[4][0])
  np.testing.assert_array_equal(data[4][1], scenes[4][1])


@pytest.mark.parametrize("index", [-1, 5, 100])
def test_an_index_outside_is_an_index_error(index):
  with pytest.raises(IndexError, match="outside 0..4"):
    streets.Streets(11, 5, HEIGHT, WIDTH)[index]
