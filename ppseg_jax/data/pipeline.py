"""From a source to batches: shuffled by seed, augmented, prefetched.

What a step reads is a function of (seed, step) alone, so that resuming is
starting at another step.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from ppseg_jax.data import threads
from ppseg_jax.data.labels import VOID, LabelSpace

_SHUFFLE, _AUGMENT = 0, 1  # purposes of the random numbers drawn here
_PREFETCH = 3  # batches


class Source(Protocol):
  """An index-addressable data set.

  `source[i]` is (image uint8 [H, W, 3], labels uint8 [H, W] of train ids).
  It is called from several threads. One that reads files has `files` too, the
  paths of the image and of the labels of each example. One that lies in files
  of many examples has `shards`, their paths, and `raw(i)`, the same example
  before resizing, its labels as raw ids.
  """

  label_space: LabelSpace

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...


class Through:
  """A source whose examples `read`, (index) -> example, makes of another's."""

  def __init__(
      self, source: Source,
      read: Callable[[int], tuple[np.ndarray, np.ndarray]],
  ):
    self.label_space = source.label_space
    self._source, self._read = source, read

  @property
  def files(self) -> list[tuple[Path, Path]]:
    return files_of(self._source)

  @property
  def shards(self) -> list[Path]:
    return shards_of(self._source)

  def raw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    return self._source.raw(index)

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    return self._read(index)


def cached(source: Source) -> Source:
  """The source, which keeps in memory what it has read once."""
  return Through(source, functools.cache(source.__getitem__))


def released(
    source: Source, release: Callable[[int, np.ndarray], np.ndarray]
) -> Source:
  """A source whose images are what their owners let out of them.

  Args:
    source: of the images.
    release: (index, image uint8 [H, W, 3]) -> the same shape and type; a
      function of the two alone, so that an image is released once.
  """
  def read(index: int) -> tuple[np.ndarray, np.ndarray]:
    image, labels = source[index]
    return release(index, image), labels

  return Through(source, read)


class Subset:
  """Some images of a source."""

  def __init__(self, source: Source, indices: list[int]):
    self.label_space = source.label_space
    self._source, self._indices = source, indices

  @property
  def files(self) -> list[tuple[Path, Path]]:
    files = files_of(self._source)
    return [files[i] for i in self._indices] if files else []

  @property
  def shards(self) -> list[Path]:
    return shards_of(self._source)

  def raw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    return self._source.raw(self._indices[index])

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    return self._source[self._indices[index]]


class Joined:
  """Sources one after another; only the first one's labels are known."""

  def __init__(self, first: Source, others: list[Source]):
    self.label_space = first.label_space
    self._first = first
    self._others = [(source, i) for source in others
                    for i in range(len(source))]

  @property
  def files(self) -> list[tuple[Path, Path]]:
    return files_of(self._first)

  @property
  def shards(self) -> list[Path]:
    return shards_of(self._first)

  def __len__(self) -> int:
    return len(self._first) + len(self._others)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    if index < len(self._first):
      return self._first[index]
    source, index = self._others[index - len(self._first)]
    image, labels = source[index]
    return image, np.full_like(labels, VOID)


def shards_of(source: Source) -> list[Path]:
  """The files that hold all examples of a prepared data set; none of others."""
  return getattr(source, "shards", [])


def in_order(source: Source) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields every example, a few read ahead by threads."""
  batches = ([(index,)] for index in range(len(source)))
  for _, (example,) in _prefetch(batches, source.__getitem__):
    yield example


def files_of(source: Source) -> list[tuple[Path, Path]]:
  """(image, labels), the files of each example; none of what is drawn."""
  return getattr(source, "files", [])


def _rng(seed: int, purpose: int, *data: int) -> np.random.Generator:
  return np.random.default_rng([seed, purpose, *data])


def order(seed: int, epoch: int, size: int) -> np.ndarray:
  """The order in which an epoch reads the source, int [size]."""
  return _rng(seed, _SHUFFLE, epoch).permutation(size)


def train_batches(
    source: Source,
    augment: Callable,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    rows: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
  """Yields rows of the batch of each step, first to last - 1.

  Epochs follow one another without a gap: a batch may hold the end of one and
  the start of the next, and is never short.

  Args:
    source: to read from.
    augment: (rng, image, labels) -> arrays by name, see `data.augment`; the
      generator is a function of (seed, epoch, index).
    batch_size: of all processes together.
    seed: of order and augmentation.
    first_step: the first step to yield.
    last_step: the step to stop before.
    rows: of each batch, those to read, int [b]; None: all of them.

  Yields:
    image uint8 [b, H, W, 3], label uint8 [b, H, W] and whatever else `augment`
    gives, index int32 [b], epoch int32 [b].
  """
  size = len(source)
  rows = np.arange(batch_size) if rows is None else rows
  epoch_order = functools.lru_cache(maxsize=2)(
      lambda epoch: order(seed, epoch, size)
  )

  def example(epoch: int, index: int) -> dict[str, np.ndarray]:
    return augment(_rng(seed, _AUGMENT, epoch, index), *source[index])

  def jobs() -> Iterator[list[tuple[int, int]]]:
    for step in range(first_step, last_step):
      places = (divmod(step * batch_size + int(row), size) for row in rows)
      yield [(epoch, int(epoch_order(epoch)[at])) for epoch, at in places]

  for pairs, examples in _prefetch(jobs(), example):
    epochs, indices = np.array(pairs, np.int32).T
    yield {
        name: np.stack([each[name] for each in examples])
        for name in examples[0]
    } | {"index": indices, "epoch": epochs}


def eval_batches(
    source: Source,
    count: int,
    *,
    batch_size: int,
    rows: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
  """Yields images 0 to count - 1 once, in order; of each batch the `rows`.

  The last batch is filled up with the last image under void labels, which
  metrics do not count; its index is -1 there. Image, label, index and epoch as
  of `train_batches`, epoch 0.
  """
  rows = np.arange(batch_size) if rows is None else rows

  def jobs() -> Iterator[list[tuple[int]]]:
    for start in range(0, count, batch_size):
      yield [(start + int(row),) for row in rows]

  def example(place: int) -> tuple[np.ndarray, np.ndarray]:
    image, labels = source[min(place, count - 1)]
    return image, labels if place < count else np.full_like(labels, VOID)

  for places, examples in _prefetch(jobs(), example):
    images, labels = zip(*examples, strict=True)
    indices = np.array(places, np.int32)[:, 0]
    yield {
        "image": np.stack(images), "label": np.stack(labels),
        "index": np.where(indices < count, indices, -1),
        "epoch": np.zeros(len(rows), np.int32),
    }


def _prefetch(jobs: Iterator[list[tuple]], example: Callable) -> Iterator:
  """Yields (job, examples) in order, a few batches read ahead by threads."""
  pool = ThreadPoolExecutor(threads.count())
  waiting = deque()
  try:
    for job in jobs:
      waiting.append((job, [pool.submit(example, *item) for item in job]))
      if len(waiting) > _PREFETCH:
        job, futures = waiting.popleft()
        yield job, [future.result() for future in futures]
    while waiting:
      job, futures = waiting.popleft()
      yield job, [future.result() for future in futures]
  finally:
    pool.shutdown(wait=False, cancel_futures=True)
