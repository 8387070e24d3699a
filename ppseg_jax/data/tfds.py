"""Data sets that tensorflow-datasets has prepared, read by index.

`data.name=tfds:NAME` or `tfds:NAME/CONFIG`, with `data.dir` the data_dir that
it was prepared in. Read are ArrayRecord files, which need no TensorFlow; only
what wrote them may have.
"""

import contextlib
import functools
import importlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import ml_collections
import numpy as np

from ppseg_jax import pictures
from ppseg_jax.data import ade20k
from ppseg_jax.data.labels import (
    CITYSCAPES,
    VOID,
    LabelSpace,
    distinct_colour,
    from_json,
)
from ppseg_jax.errors import UserError

PREFIX = "tfds:"
SPACE = "ppseg_jax_label_space"  # in the metadata of what `convert` writes

_SPLITS = {"train": ("train",), "val": ("validation", "val", "test")}
_IDS = ("image_id", "file_name", "filename", "image/filename", "id")

# The 100 things of ADE20K's 150 classes, by their raw ids, in the order of
# instanceInfo100 of the Places Challenge 2017.
_THINGS = (
    8, 9, 11, 13, 15, 16, 19, 20, 21, 23, 24, 25, 28, 31, 32, 33, 34, 36, 37,
    38, 39, 40, 42, 43, 44, 45, 46, 48, 50, 51, 54, 56, 57, 58, 59, 63, 65, 66,
    67, 68, 70, 71, 72, 73, 74, 75, 76, 77, 79, 81, 82, 83, 84, 86, 87, 88, 89,
    90, 91, 93, 94, 96, 98, 99, 103, 104, 105, 108, 109, 111, 112, 113, 116,
    117, 119, 120, 121, 122, 124, 125, 126, 127, 128, 130, 131, 133, 134, 135,
    136, 137, 138, 139, 140, 143, 144, 145, 147, 148, 149, 150,
)
SPACES = {  # of data sets that do not say what their ids mean
    "cityscapes": CITYSCAPES,
    # Its annotations are those of instances: red is the class, 1 to 100, green
    # the instance. What is no thing has 0, and is void here.
    "scene_parse150": LabelSpace(
        name="ade20k_things", names=tuple(ade20k.NAMES[i - 1] for i in _THINGS),
        colours=tuple(distinct_colour(i) for i in _THINGS),
        raw_to_train={0: VOID} | {i + 1: i for i in range(100)},
    ),
    "oxford_iiit_pet": LabelSpace(  # a trimap
        name="oxford_iiit_pet", names=("pet", "background", "border"),
        colours=((220, 120, 90), (64, 64, 64), (240, 220, 90)),
        raw_to_train={1: 0, 2: 1, 3: 2},
    ),
}
_RED = ("scene_parse150",)  # whose labels are in the first of three channels


def imported() -> ModuleType:
  """The package tensorflow_datasets, which takes seconds to import."""
  try:
    return importlib.import_module("tensorflow_datasets")
  except ImportError as error:
    raise UserError(
        f"data.name={PREFIX}... needs the package tensorflow-datasets"
        f" ({error}); install it by pip install 'ppseg_jax[tfds]'."
    ) from None


def label_space(config: ml_collections.ConfigDict) -> LabelSpace:
  """The classes of `config.name`, which begins with `tfds:`."""
  builder = _builder(config)
  return _space(builder, _features(builder, config)[1])


class Prepared:
  """A split of a prepared data set.

  Attributes:
    label_space: of the labels.
    shards: the files it lies in.
  """

  def __init__(
      self, config: ml_collections.ConfigDict, split: str, fit: Callable
  ):
    """Opens `split`, `train` or `val`, of the data set `config.name`.

    Args:
      config: the run's `data`.
      split: where a data set has no `validation`, its `test` is `val`.
      fit: (image uint8 [H, W, 3], train ids uint8 [H, W]) -> the same, of the
        sizes that are wanted.

    Raises:
      UserError: where it is not there, or not to be read by index.
    """
    builder = _builder(config)
    self._image, self._label = _features(builder, config)
    self.label_space = _space(builder, self._label)
    self._red = builder.name in _RED
    self._fit = fit
    found = [name for name in _SPLITS[split] if name in builder.info.splits]
    if not found:
      raise UserError(
          f"data.name={config.name} has the splits"
          f" {', '.join(builder.info.splits)}, but none of"
          f" {', '.join(_SPLITS[split])}; prepare another one."
      )
    self._where = f"{config.name}, {found[0]}"
    files = builder.info.splits[found[0]].filepaths
    self.shards = [Path(path) for path in files]
    for path in self.shards:
      if not path.exists():
        raise UserError(f"{path} is missing; prepare {config.name} again.")
    self._source = _source(builder, found[0])
    self._order = _order(str(builder.data_dir), found[0])

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    """(image uint8 [H, W, 3], labels uint8 [H, W] of train ids).

    Raises UserError for what `raw` refuses, and ids outside the label space.
    """
    image, labels = self.raw(index)
    where = f"{self._where}[{index}]"
    return self._fit(image, self.label_space.to_train_ids(labels, where))

  def raw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    """(image uint8 [H, W, 3], raw ids uint8 [H, W]) as they are stored."""
    with _readable(f"{self._where}[{index}]"):
      example = self._source[int(self._order[index])]
    try:
      image = pictures.read_picture(io.BytesIO(example[self._image]))
      labels = _decode_labels(example[self._label], self._red)
    except UserError as error:
      raise UserError(f"{self._where}[{index}] {error}") from None
    if image.shape[:2] != labels.shape:
      raise UserError(
          f"{self._where}[{index}]: labels of {labels.shape[1]}x"
          f"{labels.shape[0]} pixels do not fit the image of"
          f" {image.shape[1]}x{image.shape[0]}."
      )
    return np.broadcast_to(image, (*labels.shape, 3)), labels


def _builder(config: ml_collections.ConfigDict):
  """What reads the newest version of the data set, by its files alone."""
  name = config.name.removeprefix(PREFIX)
  if not re.fullmatch(r"\w+(/[\w.-]+)?", name):
    raise UserError(
        f"data.name={config.name} must be like {PREFIX}oxford_iiit_pet or"
        f" {PREFIX}cityscapes/semantic_segmentation."
    )
  tfds = imported()
  root = Path(config.dir) / name
  versions = sorted(
      (tuple(map(int, path.parent.name.split("."))), path.parent)
      for path in root.glob("*/dataset_info.json")
      if re.fullmatch(r"\d+(\.\d+)*", path.parent.name)
  )
  if not versions:
    raise UserError(
        f"data.dir='{config.dir}' holds no prepared {name}: there is no"
        f" {root}/VERSION/dataset_info.json; prepare it by 'tfds build {name}"
        f" --data_dir={config.dir} --file_format=array_record', or give"
        " another path with --config.data.dir=."
    )
  folder = versions[-1][1]
  with _readable(str(folder)):
    builder = tfds.builder_from_directory(folder)
    (builder.info.metadata or {}).get(SPACE)  # which is read when asked for
  return builder


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
  """Errors of the libraries that read, as one sentence on `what` they read."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:  # they raise anything
    reason = str(error).strip().partition("\n")[0]
    raise UserError(
        f"{what} cannot be read ({reason}); prepare the data set again."
    ) from None


def _features(builder, config: ml_collections.ConfigDict) -> tuple[str, str]:
  """The names of image and labels: those given, or found by their types."""
  tfds, features = imported(), builder.info.features
  images = {name: feature for name, feature in features.items()
            if isinstance(feature, tfds.features.Image)}
  labels = [name for name, feature in images.items()
            if isinstance(feature, tfds.features.LabeledImage)
            or feature.shape[-1] == 1]
  if builder.name in _RED:
    labels = ["annotation"]
  plain = [name for name in images if name not in labels]
  chosen = []
  for field, wanted, found in (
      ("tfds_image", config.get("tfds_image", ""), plain),
      ("tfds_label", config.get("tfds_label", ""), labels),
  ):
    if not wanted and len(found) == 1:
      wanted = found[0]
    if wanted not in images:
      raise UserError(
          f"data.{field}='{wanted}' must name one of the pictures of"
          f" {config.name}: {', '.join(images) or 'it has none'}."
      )
    chosen.append(wanted)
  return tuple(chosen)


def _space(builder, label: str) -> LabelSpace:
  stored = (builder.info.metadata or {}).get(SPACE)
  if stored:
    return from_json(stored)
  if builder.name in SPACES:
    return SPACES[builder.name]
  names = getattr(builder.info.features[label], "names", None)
  if not names:
    raise UserError(
        f"{PREFIX}{builder.name} does not say what the ids of '{label}' mean;"
        " make it a tfds.features.LabeledImage with names, and prepare it"
        " again."
    )
  ids = range(len(names))
  return LabelSpace(
      builder.name, tuple(names), tuple(distinct_colour(i) for i in ids),
      {VOID: VOID} | {i: i for i in ids},
  )


def _source(builder, split: str):
  """Examples by index, pictures as the bytes of their files."""
  tfds = imported()
  skipped = {
      name: tfds.decode.SkipDecoding()
      for name, feature in builder.info.features.items()
      if isinstance(feature, tfds.features.Image)
  }
  try:
    return builder.as_data_source(split, decoders=skipped)
  except NotImplementedError:
    raise UserError(
        f"{builder.data_dir} holds {builder.info.file_format.value} files,"
        " which cannot be read by index; convert it by 'tfds convert_format"
        f" --dataset_version_dir={builder.data_dir}"
        " --out_file_format=array_record'."
    ) from None


@functools.lru_cache(maxsize=8)
def _order(folder: str, split: str) -> np.ndarray:
  """Where the examples are stored, in the order of their ids, int [N].

  They are stored in the order of a hash. Where there are no ids, or the writer
  kept its order, as they are stored. Ids are read with all else of an example.
  """
  builder = imported().builder_from_directory(folder)
  source = _source(builder, split)
  named = [name for name in _IDS if name in builder.info.features]
  if builder.info.disable_shuffling or not named:
    return np.arange(len(source))
  with _readable(f"{folder}, {split}"):
    ids = [source[i][named[0]] for i in range(len(source))]
  return np.array(sorted(range(len(ids)), key=ids.__getitem__), int)


def _decode_labels(content: bytes, red: bool) -> np.ndarray:
  """Raw ids, uint8 [H, W], of a picture file; UserError, without its name."""
  with pictures.opened(io.BytesIO(content)) as image:
    taken = ("L", "P", "RGB") if red else ("L", "P")
    if image.mode not in taken or pictures.is_shallow(image):
      raise UserError(
          f"has labels of mode {image.mode} in a {image.format} file, but one"
          " class id a pixel is wanted, as 8-bit grey or a palette."
      )
    if image.format in ("JPEG", "MPO", "WEBP"):
      raise UserError(f"has labels in a {image.format} file, which may have"
                      " changed ids.")
    image.load()
    ids = np.asarray(image)
  return ids[..., 0] if ids.ndim == 3 else ids
