"""Data sources by name; a new one is a function here and one line below."""

import ml_collections

from ppseg_jax.data import folders
from ppseg_jax.data.labels import CAMVID, CITYSCAPES
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
  if config.name not in SOURCES:
    raise UserError(
        f"data.name='{config.name}' is none of {', '.join(SOURCES)}."
    )
  _, make = SOURCES[config.name]
  source = make(config, "val" if split == "val" else "train")
  if split != "val":
    source = _part(source, config.leave_out, split == "left_out")
  return Cached(source) if cache and config.cache else source


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
