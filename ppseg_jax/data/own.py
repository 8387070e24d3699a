"""One's own data set: a folder of pairs, and classes.json.

    D/classes.json
    D/train/images, D/train/labels   (or D/train/pairs.csv)
    D/val/images, D/val/labels       (or a share of train)

classes.json is a list with an entry for each id in the label files:

    {"id": 3, "name": "road", "colour": [128, 64, 128]}
    {"id": 255, "name": "void", "void": true}

Ids of one name are one class; classes are numbered in their order. The colour
is what a class is shown in, and what stands for it in label files that hold
colours. What is void is not counted.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from ppseg_jax.data.folders import Found, split_folder
from ppseg_jax.data.label_files import read_values
from ppseg_jax.data.labels import (
    VOID,
    LabelSpace,
    distinct_colour,
    pack,
    unpack,
)
from ppseg_jax.data.threads import in_threads
from ppseg_jax.errors import UserError

_FILE = "classes.json"
_KEYS = {"id", "name", "colour", "void"}


def read_space(folder: Path) -> LabelSpace:
  """The label space that `folder/classes.json` declares."""
  path = folder / _FILE
  try:
    entries = json.loads(path.read_text())
  except FileNotFoundError:
    raise UserError(
        f"data.dir='{folder}' has no {_FILE}, which declares the classes; write"
        f" a first one with python -m ppseg_jax.data init {folder}, or give"
        " another path with --config.data.dir=."
    ) from None
  except (ValueError, OSError):
    raise UserError(f"{path} is not valid JSON; mend it.") from None
  if not isinstance(entries, list) or not entries:
    raise UserError(f"{path} must be a list with an entry for each id.")
  return space_of(entries, path)


def space_of(entries: list, path: Path) -> LabelSpace:
  """The label space of the entries of a `classes.json`; `path` for errors."""
  names, colours = [], []
  to_train, raw_colours, owner = {}, {}, {}
  for number, entry in enumerate(entries, 1):
    wrong = _wrong(entry)
    if wrong:
      raise UserError(f"{path}, entry {number}: {wrong}.")
    raw, name, colour = entry["id"], entry["name"], entry.get("colour")
    void = entry.get("void", False)
    if raw in to_train:
      raise UserError(f"{path}, entry {number}: id {raw} is declared twice.")
    if not void and name not in names:
      names.append(name)
      colours.append(tuple(colour))
    to_train[raw] = VOID if void else names.index(name)
    if colour is not None:
      if owner.setdefault(tuple(colour), to_train[raw]) != to_train[raw]:
        raise UserError(
            f"{path}, entry {number}: colour {colour} is another class's too;"
            " give each its own."
        )
      raw_colours.setdefault(tuple(colour), raw)
  if not 1 <= len(names) <= VOID:
    raise UserError(
        f"{path} declares {len(names)} classes besides void; 1 to {VOID} are"
        " possible."
    )
  return LabelSpace("folder", tuple(names), tuple(colours), to_train,
                    raw_colours)


def _wrong(entry) -> str:
  """What is wrong with an entry of classes.json; '' if nothing is."""
  if not isinstance(entry, dict) or not {"id", "name"} <= entry.keys():
    return 'must be like {"id": 3, "name": "road", "colour": [128, 64, 128]}'
  unknown = entry.keys() - _KEYS
  if unknown:
    return f"'{min(unknown)}' is none of {', '.join(sorted(_KEYS))}"
  void, colour = entry.get("void", False), entry.get("colour")
  if not _is_byte(entry["id"]):
    return f"id {entry['id']!r} must be an integer from 0 to 255"
  if not isinstance(entry["name"], str) or not entry["name"].strip():
    return f"name {entry['name']!r} must be a text"
  if not isinstance(void, bool):
    return f"void {void!r} must be true or false"
  if colour is None and void:
    return ""
  if not (isinstance(colour, list) and len(colour) == 3
          and all(map(_is_byte, colour))):
    return f"colour {colour!r} must be three integers from 0 to 255"
  return ""


def _is_byte(value) -> bool:
  return type(value) is int and 0 <= value <= 255


def find(root: Path, split: str, val_share: float) -> Found:
  """The files of `train` or `val`.

  Of the folder of that name; or, with a `val_share`, of train, where a hash of
  an image's name says whether it is of val, so that images that come later do
  not move those that were there.
  """
  parted = (root / "val").is_dir()
  if parted and val_share:
    raise UserError(
        f"data.dir='{root}' has a folder val, but data.val_share={val_share}"
        " takes a part of train instead; use data.val_share=0, or move val"
        " away."
    )
  if split == "val" and not parted and not val_share:
    raise UserError(
        f"data.dir='{root}' has no folder val; put held-out images there, or"
        " hold a part of train out with --config.data.val_share=0.2."
    )
  if not val_share:
    return split_folder(root, split, "your images and labels")
  found = split_folder(root, "train", "your images and labels")
  held = split == "val"
  pairs = [
      pair for pair in found.pairs
      if held == is_held(pair[0].relative_to(root / "train"), val_share)
  ]
  if found.pairs and not pairs:
    raise UserError(
        f"data.val_share={val_share} leaves no image of the"
        f" {len(found.pairs)} for {split}; choose another share."
    )
  return Found(pairs, found.skipped)


def is_held(name: Path, share: float) -> bool:
  """Whether the image of this name is of the held-out share of train."""
  digest = hashlib.sha256(name.as_posix().encode()).digest()
  return int.from_bytes(digest[:8], "big") < share * 2**64


def init(folder: Path) -> Path:
  """Writes a first `folder/classes.json` from the labels; returns its path.

  Ids, or colours, as the label files have them; names are made up, and 255 is
  taken for void.

  Raises UserError where there is one already, and for labels that are not
  taken.
  """
  path = folder / _FILE
  if path.exists():
    raise UserError(f"{path} is there already; edit it, or move it away.")
  pairs = split_folder(folder, "train", "your images and labels").pairs
  if (folder / "val").is_dir():
    pairs += split_folder(folder, "val", "your images and labels").pairs
  if not pairs:
    raise UserError(f"data.dir='{folder}' holds no images.")
  entries = _entries(folder, [labels for _, labels in pairs])
  lines = ",\n".join(f"  {json.dumps(entry)}" for entry in entries)
  try:
    with path.open("x") as file:
      file.write(f"[\n{lines}\n]\n")
  except OSError as error:
    raise UserError(f"{path} cannot be written: {error.strerror}.") from None
  return path


def _entries(folder: Path, label_paths: list[Path]) -> list[dict]:
  """The entries of classes.json for what is in the label files."""
  ids, colours, palette = set(), set(), None

  def read(path: Path) -> tuple[np.ndarray, bool, bytes | None]:
    values, palette = read_values(path, coloured=True)
    coloured = values.ndim == 3
    return np.unique(pack(values) if coloured else values), coloured, palette

  for found, coloured, of_file in in_threads(read, label_paths):
    (colours if coloured else ids).update(found.tolist())
    palette = max(palette, of_file, key=lambda x: len(x or b""))
    if len(colours) > 256:
      raise UserError(
          f"the labels in '{folder}' hold more than 256 colours, so that they"
          " are no classes; if lines were drawn smoothly or the files once"
          " compressed with loss, make them again."
      )
  if ids and colours:
    raise UserError(
        f"some label files in '{folder}' hold ids and others colours; make them"
        " all the same."
    )
  if colours:
    return [
        {"id": i, "name": f"class_{i}", "colour": list(unpack(packed))}
        for i, packed in enumerate(sorted(colours))
    ]
  classes = sorted(ids - {VOID}) or [VOID]
  shown = [tuple((palette or b"")[3 * i : 3 * i + 3]) for i in classes]
  if len({*shown}) < len(classes) or any(len(rgb) < 3 for rgb in shown):
    shown = [distinct_colour(i + 1) for i in classes]
  entries = [{"id": i, "name": f"class_{i}", "colour": list(rgb)}
             for i, rgb in zip(classes, shown, strict=True)]
  if VOID in ids and VOID not in classes:
    entries.append({"id": VOID, "name": "void", "void": True})
  return entries
