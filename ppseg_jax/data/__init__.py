"""Data sources by name; a new one is a function here and one line below."""

import ml_collections

from ppseg_jax.data import folders
from ppseg_jax.data.labels import CAMVID, CITYSCAPES
from ppseg_jax.data.pipeline import Cached, Source
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


def load(config: ml_collections.ConfigDict, split: str) -> Source:
  """The source `config.name`, split `train` or `val`, at height x width.

  Raises UserError for an unknown name or a missing folder.
  """
  if config.name not in SOURCES:
    raise UserError(
        f"data.name='{config.name}' is none of {', '.join(SOURCES)}."
    )
  _, make = SOURCES[config.name]
  source = make(config, split)
  return Cached(source) if config.cache else source
