"""How images of other sizes are brought to a model, and back.

`data.resize` says how: `exact` to height x width, whatever the image's shape;
`shorter` so that its shorter side is that of height x width, the other in
proportion; `none` not at all. In training what sticks out is cropped and what
is missing is void; a test pads to whole blocks, as a client does.
"""

import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_collections
import numpy as np
from PIL import Image

from ppseg_jax import pictures
from ppseg_jax.data import threads
from ppseg_jax.data.folders import Fit
from ppseg_jax.data.labels import VOID, LabelSpace
from ppseg_jax.data.pipeline import Source, files_of, shards_of
from ppseg_jax.data.threads import in_threads
from ppseg_jax.errors import UserError

Size = tuple[int, int]  # (height, width)


def input_size(data: ml_collections.ConfigDict, own: Size) -> Size:
  """The size to which an image of size `own` is resized, without padding."""
  how = data.get("resize", "exact")  # attacks take images of one size alone
  if how == "none":
    return own
  if how == "exact":
    return data.height, data.width
  shorter = min(data.height, data.width)
  return tuple(max(1, round(side * shorter / min(own))) for side in own)


def is_mixed(data: ml_collections.ConfigDict) -> bool:
  """Whether images keep sizes or shapes of their own."""
  return data.get("resize", "exact") != "exact"


def for_training(data: ml_collections.ConfigDict) -> Fit:
  """Resizes image (bilinear) and labels (nearest)."""
  def fit(image, labels):
    size = input_size(data, labels.shape)
    return resize(image, size), resize(labels, size, Image.Resampling.NEAREST)

  return fit


def for_test(config: ml_collections.ConfigDict) -> Fit:
  """The image resized and padded to whole blocks, as a client sends it.

  The labels likewise, void where the image is padded; with `eval.at=original`
  they stay as they are.
  """
  unit = block_unit(config)

  def fit(image, labels):
    size = input_size(config.data, labels.shape)
    image = pictures.pad(resize(image, size), unit)
    if config.eval.at == "input":
      labels = resize(labels, size, Image.Resampling.NEAREST)
      image, labels = fitted(image, labels, *image.shape[:2])
    return image, labels

  return fit


def shape_of_test(config: ml_collections.ConfigDict, own: Size) -> Size:
  """What is equal for examples of `for_test` whose arrays have equal shapes.

  With `eval.at=original` the size of the labels, `own`, from which the image's
  follows.
  """
  if config.eval.at == "original":
    return own
  unit = block_unit(config)
  return tuple(side + -side % unit for side in input_size(config.data, own))


def of_logits(config: ml_collections.ConfigDict) -> Callable[[Size], Size]:
  """Size of the labels of a test -> of the logits they go with, unpadded."""
  if config.eval.at == "input":
    return lambda labels: labels
  return functools.partial(input_size, config.data)


def block_unit(config: ml_collections.ConfigDict) -> int:
  """What the sides of a model's input must be multiples of, in pixels."""
  return math.lcm(config.block, config.model.patch)


def resize(
    values: np.ndarray, size: Size, how=Image.Resampling.BILINEAR
) -> np.ndarray:
  """uint8 [h, w, 3] or uint8 or float32 [h, w], resized to `size`."""
  if values.shape[:2] == size:
    return np.asarray(values)
  image = Image.fromarray(np.ascontiguousarray(values))
  return np.asarray(image.resize(size[::-1], how))


def fitted(
    image: np.ndarray, labels: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
  """Padded with black and void, or cut to the middle, to height x width.

  The two may be of different sizes.
  """
  def fit(array: np.ndarray, missing: int) -> np.ndarray:
    top, left = (max(side - wanted, 0) // 2 for side, wanted in
                 zip(array.shape, (height, width), strict=False))
    array = array[top : top + height, left : left + width]
    below, right = height - array.shape[0], width - array.shape[1]
    if not below and not right:
      return array
    more = [(0, below), (0, right)] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, more, constant_values=missing)

  return fit(image, 0), fit(labels, VOID)


class Sized:
  """A test's source whose examples are of several shapes.

  Attributes:
    shapes: of each example, by the heads of its files, see `shape_of_test`. Of
      a source without such files each example is read.
  """

  def __init__(self, source: Source, config: ml_collections.ConfigDict):
    self.label_space: LabelSpace = source.label_space
    self._source = source
    self.shapes = [
        shape_of_test(config, own) for own in _own_sizes(source)
    ] or [
        tuple(array.shape for array in source[i]) for i in range(len(source))
    ]

  @property
  def files(self) -> list[tuple[Path, Path]]:
    return files_of(self._source)

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    return self._source[index]


def _own_sizes(source: Source) -> list[Size]:
  """Of each example before resizing; none of a source that is not of files."""
  if shards_of(source):
    labels = in_threads(lambda i: source.raw(i)[1], list(range(len(source))))
    return [each.shape for each in labels]
  return [_size_of(image) for image, _ in files_of(source)]


def _size_of(path: Path) -> Size:
  """(height, width) by the head of a file, as it is looked at."""
  try:
    with pictures.opened(path) as image:
      turned = image.getexif().get(0x0112, 1) >= 5
      return image.size if turned else image.size[::-1]
  except UserError as error:
    raise UserError(f"{path} {error}") from None


def by_shape(source: Source, count: int, batch_size: int) -> Iterator[list]:
  """Batches of indices of examples of one shape, filled up with -1.

  Each of the first `count` examples is in one batch; which ones are together
  does not depend on the batch's size but for its ends.
  """
  groups = {}
  for index, shape in enumerate(source.shapes[:count]):
    groups.setdefault(shape, []).append(index)
  for indices in groups.values():
    for start in range(0, len(indices), batch_size):
      part = indices[start : start + batch_size]
      yield part + [-1] * (batch_size - len(part))


def shaped_batches(
    source: Source, count: int, *, batch_size: int,
    rows: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
  """As `pipeline.eval_batches`, for a source with `shapes`.

  Every batch holds examples of one shape, so that there is a compilation for
  each shape, and what a model says of an image does not depend on the others.
  """
  rows = np.arange(batch_size) if rows is None else rows
  with ThreadPoolExecutor(threads.count()) as pool:
    for indices in by_shape(source, count, batch_size):
      own = np.array(indices, np.int32)[rows]
      places = np.where(own < 0, indices[0], own).tolist()
      images, labels = map(np.stack, zip(
          *pool.map(source.__getitem__, places), strict=True
      ))
      labels[own < 0] = VOID
      yield {"image": images, "label": labels, "index": own,
             "epoch": np.zeros(len(rows), np.int32)}
