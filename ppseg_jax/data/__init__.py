"""Data sources by name; a new one is a function here and one line below."""

from collections.abc import Callable

import ml_collections
import numpy as np
from PIL import Image

from ppseg_jax.data import folders, tfds
from ppseg_jax.data.labels import CAMVID, CITYSCAPES, LabelSpace
from ppseg_jax.data.pipeline import Cached, Source, Subset
from ppseg_jax.data.streets import Streets
from ppseg_jax.errors import UserError


def _streets(config: ml_collections.ConfigDict, split: str) -> Source:
  # Splits are different seeds: no held-out scene was ever trained on.
  seed, size = {
      "train": (0, config.train_images), "val": (1, config.val_images)
  }[split]
  return Streets(seed, size, config.height, config.width)


def _camvid(config: ml_collections.ConfigDict, split: str) -> Source:
  return folders.camvid(config.dir, split, config.height, config.width)


def _cityscapes(config: ml_collections.ConfigDict, split: str) -> Source:
  return folders.cityscapes(config.dir, split, config.height, config.width)


SOURCES = {  # name -> (its label space, function of (config, split))
    "streets": (CITYSCAPES, _streets),
    "camvid": (CAMVID, _camvid),
    "cityscapes": (CITYSCAPES, _cityscapes),
}


SPLITS = ("train", "val", "left_out")


def label_space(config: ml_collections.ConfigDict) -> LabelSpace:
  """The classes of the data set `config.name`; UserError for an unknown one."""
  _check_name(config.name)
  if config.name.startswith(tfds.PREFIX):
    return tfds.label_space(config)
  return SOURCES[config.name][0]


def _check_name(name: str) -> None:
  if name not in SOURCES and not name.startswith(tfds.PREFIX):
    raise UserError(
        f"data.name='{name}' is none of {', '.join(SOURCES)}, tfds:NAME."
    )


def load(
    config: ml_collections.ConfigDict, split: str, cache: bool = True
) -> Source:
  """The source `config.name`, split `train` or `val`, at height x width.

  `config.leave_out` names a part of `train` that is not trained on: `2/5` is
  the second of five runs of images in their order (frames of one film stay
  together). After a comma comes a part of what is left then. The split
  `left_out` is the part that was named last. Images are kept in memory if both
  `cache` and `config.cache` say so.

  Raises UserError for an unknown name, a missing folder or a part that is not
  there.
  """
  _check_name(config.name)
  half = "val" if split == "val" else "train"
  if config.name.startswith(tfds.PREFIX):
    source = tfds.Prepared(config, half, _exact(config))
  else:
    source = SOURCES[config.name][1](config, half)
  if split != "val":
    source = _part(source, config.leave_out, split == "left_out")
  return Cached(source) if cache and config.cache else source


def _exact(config: ml_collections.ConfigDict) -> Callable:
  """(image, labels) -> the same at height x width."""
  size = config.width, config.height

  def fit(image, labels):
    image = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    labels = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
    return np.asarray(image), np.asarray(labels)

  return fit


def parse_parts(text: str) -> list[tuple[int, int]]:
  """'2/5,1/2' -> [(2, 5), (1, 2)]; UserError for anything else."""
  parts = []
  for part in filter(None, text.split(",")):
    number, _, count = part.partition("/")
    if not (number.isdigit() and count.isdigit()
            and 1 <= int(number) <= int(count) and int(count) > 1):
      raise UserError(
          f"data.leave_out='{text}' must be like 2/5, the second of five parts;"
          " after a comma a part of what is left."
      )
    parts.append((int(number), int(count)))
  return parts


def _part(source: Source, leave_out: str, held: bool) -> Source:
  left, out = list(range(len(source))), []
  for number, count in parse_parts(leave_out):
    start = len(left) * (number - 1) // count
    stop = len(left) * number // count
    out, left = left[start:stop], left[:start] + left[stop:]
  if (held and not out) or not left:
    raise UserError(
        f"data.leave_out='{leave_out}' of {len(source)} images leaves none;"
        " choose another part."
    )
  return Subset(source, out if held else left) if leave_out else source
