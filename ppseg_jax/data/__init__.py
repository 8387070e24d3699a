"""Data sources by name: drawn, in a public layout, one's own, contributed."""

from collections.abc import Callable
from pathlib import Path

import ml_collections
import numpy as np

from ppseg_jax.data import encrypted, own, sizes, tfds
from ppseg_jax.data.folders import Fit, Folder
from ppseg_jax.data.labels import CITYSCAPES, LabelSpace
from ppseg_jax.data.layouts import LAYOUTS
from ppseg_jax.data.pipeline import (
    Joined,
    Source,
    Subset,
    cached,
    released,
)
from ppseg_jax.data.streets import Streets
from ppseg_jax.errors import UserError

# name -> (its label space, class of (seed, size, height, width))
DRAWN = {
    "streets": (CITYSCAPES, Streets),
}
SOURCES = (*DRAWN, "folder", encrypted.NAME, *LAYOUTS)
SPLITS = ("train", "val", "left_out")
Release = Callable[[int, np.ndarray], np.ndarray]


def label_space(config: ml_collections.ConfigDict) -> LabelSpace:
  """The classes of the data set `config.name`.

  Raises UserError for an unknown name, or a `folder` without classes.
  """
  match config.name:
    case "folder":
      return own.read_space(Path(config.dir))
    case encrypted.NAME:
      return encrypted.declaration(config.dir).space
    case name if name in DRAWN:
      return DRAWN[name][0]
    case name if name in LAYOUTS:
      return LAYOUTS[name][0]
    case name if name.startswith(tfds.PREFIX):
      return tfds.label_space(config)
  raise UserError(
      f"data.name='{config.name}' is none of {', '.join(SOURCES)},"
      f" {tfds.PREFIX}NAME."
  )


def load(
    config: ml_collections.ConfigDict, split: str, cache: bool = True,
    release: Release | None = None,
) -> Source:
  """The source `config.name`, split `train` or `val`, as `config.resize` says.

  `config.leave_out` names a part of `train` that is not trained on: `2/5` is
  the second of five runs of images in their order (frames of one film stay
  together). After a comma comes a part of what is left then. The split
  `left_out` is the part that was named last. `release`, where it is given,
  makes of each image what its owner lets out (`pipeline.released`). Images are
  kept in memory if both `cache` and `config.cache` say so.

  What `config.more` names comes after the images of `train`, without labels.

  Raises UserError for an unknown name, a missing folder or a part that is not
  there.
  """
  fit = sizes.for_training(config)
  source = _load(config, split, cache, fit, release)
  if split != "train" or not config.get("more"):
    return source
  return Joined(source, [
      _load(other, "train", cache, fit, None) for other in more_of(config)
  ])


def more_of(
    config: ml_collections.ConfigDict,
) -> list[ml_collections.ConfigDict]:
  """The `data` of each data set that `config.more` names."""
  found = []
  for name, folder in parse_more(config.get("more", "")):
    other = config.copy_and_resolve_references()
    other.update(name=name, dir=folder, leave_out="", val_share=0.0, more="")
    found.append(other)
  return found


def parse_more(text: str) -> list[tuple[str, str]]:
  """'camvid=/data/camvid,streets' -> (name, folder) of each."""
  found = []
  for part in filter(None, (part.strip() for part in text.split(","))):
    name, _, folder = part.partition("=")
    if name in ("folder", encrypted.NAME) or name not in SOURCES:
      known = ", ".join((*DRAWN, *LAYOUTS))
      raise UserError(
          f"data.more='{text}': '{name}' is none of {known}; write"
          " camvid=/data/camvid,idd_lite=/data/idd_lite, for example."
      )
    found.append((name, folder))
  return found


def of_test(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The `data` of a test: the training's, or what `eval.data_name` names."""
  found = config.data
  if config.eval.data_name:
    found = found.copy_and_resolve_references()
    found.update(name=config.eval.data_name, dir=config.eval.data_dir,
                 leave_out="", val_share=0.0, tfds_image="", tfds_label="")
  return found


def check_encrypted(config: ml_collections.ConfigDict) -> None:
  """Raises UserError where a training's images come otherwise than it says.

  That is what their clients declare; other sources pass.
  """
  if config.data.name == encrypted.NAME:
    encrypted.check(config.data, config.scheme, config.block)


def roots_of(config: ml_collections.ConfigDict) -> list[Path]:
  """The folders in which the files of a source lie."""
  if config.name == encrypted.NAME:
    return encrypted.folders_of(config.dir)
  return [Path(config.dir)]


def load_test(
    config: ml_collections.ConfigDict, split: str,
    release: Release | None = None,
) -> Source:
  """The source of `of_test` as a test reads it, see `sizes.for_test`.

  Where examples are of several shapes it has `shapes`; `release` is as of
  `load`. Raises UserError where
  images come encrypted otherwise than `config.eval` says.
  """
  found = of_test(config)
  if found.name == encrypted.NAME:
    encrypted.check(found, config.eval.scheme, config.block, "eval.scheme")
  source = _load(found, split, True, sizes.for_test(config), release)
  if found.name in (*DRAWN, encrypted.NAME) or not (
      sizes.is_mixed(found) or config.eval.at == "original"
  ):
    return source
  return sizes.Sized(source, config)


def _load(
    config: ml_collections.ConfigDict, split: str, cache: bool, fit: Fit,
    release: Release | None,
) -> Source:
  source = _make(config, "val" if split == "val" else "train", fit)
  if split != "val":
    source = _part(source, config.leave_out, split == "left_out")
  if release:
    source = released(source, release)
  return cached(source) if cache and config.cache else source


def _make(config: ml_collections.ConfigDict, split: str, fit: Fit) -> Source:
  if config.val_share and config.name not in ("folder", encrypted.NAME):
    raise UserError(
        f"data.val_share={config.val_share} has no effect on data.name="
        f"{config.name}, which has a split val of its own; use 0."
    )
  if config.name.startswith(tfds.PREFIX):
    return tfds.Prepared(config, split, fit)
  if config.name == encrypted.NAME:
    return encrypted.load(config, split)
  space = label_space(config)
  if config.name in DRAWN:
    # Splits are different seeds: no held-out scene was ever trained on.
    seed, size = {
        "train": (0, config.train_images), "val": (1, config.val_images)
    }[split]
    return DRAWN[config.name][1](seed, size, config.height, config.width)
  root = Path(config.dir)
  if config.name == "folder":
    found = own.find(root, split, config.val_share)
  else:
    found = LAYOUTS[config.name][1](root, split)
  if not found.pairs:
    raise UserError(
        f"data.dir='{root}' holds no images of {split}; put the data set there."
    )
  return Folder(found, space, fit)


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
