"""Writes any source as a folder of one's own, PNG files to look at and use."""

import json
from pathlib import Path

import ml_collections
from PIL import Image

from ppseg_jax import data, files
from ppseg_jax.data import encrypted
from ppseg_jax.data.labels import VOID
from ppseg_jax.data.pipeline import in_order
from ppseg_jax.errors import UserError


def export(config: ml_collections.ConfigDict, folder: Path) -> int:
  """Writes the splits `train` and `val` as `data.name=folder` reads them.

  Pairs are as training reads them, decoded and resized; labels are the classes'
  numbers, 255 for void.

  Args:
    config: the run's `data`; `leave_out` and `cache` do not count.
    folder: made if it is not there.

  Returns:
    The number of pairs.

  Raises:
    UserError: for a bad example, or where the folder holds something.
  """
  if config.name == encrypted.NAME:
    raise UserError(
        f"data.name={encrypted.NAME} is a folder already, whose labels go with"
        " its declaration; copy it as it is."
    )
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise UserError(f"{folder} holds something already; give another folder.")
  config = config.copy_and_resolve_references()
  config.update(leave_out="", cache=False)
  count = 0
  for split in ("train", "val"):
    source = data.load(config, split)
    kinds = [folder / split / kind for kind in ("images", "labels")]
    for path in kinds:
      path.mkdir(parents=True)
    for index, pair in enumerate(in_order(source)):
      for path, pixels in zip(kinds, pair, strict=True):
        Image.fromarray(pixels).save(path / f"{index:06d}.png")
      count += 1
    space = source.label_space
  entries = [
      {"id": number, "name": name, "colour": [int(x) for x in colour]}
      for number, (name, colour) in enumerate(
          zip(space.names, space.colours, strict=True)
      )
  ] + [{"id": VOID, "name": "void", "void": True}]
  lines = ",\n".join(f"  {json.dumps(entry)}" for entry in entries)
  files.write_text(folder / "classes.json", f"[\n{lines}\n]\n")
  return count
