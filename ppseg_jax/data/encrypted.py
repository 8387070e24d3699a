"""Contributions: images that clients encrypted, under keys that are gone.

    D/encrypted.json, D/images, D/labels   (images to train on)
    D/train, D/val                         (or these, each such a folder)

`python -m ppseg_jax.client encrypt IN D --labels=LABELS` writes one; `data.dir`
names those of several clients with commas between them. Images are ciphertexts
of one size. Labels are 8-bit grey PNGs of class numbers in the order of the
declaration, 255 for void: of `places`, each where it is in the image; or of
`amounts`, under a scheme that moves blocks: moved along with the blocks, and
sorted inside each, so that they tell what a block holds and nothing of where.

encrypted.json has format, scheme, block, width, height, labels and classes, the
latter as in a `classes.json`. It says nothing of keys, names or times.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import ml_collections
import numpy as np

from ppseg_jax import pictures
from ppseg_jax.data.folders import Found, by_names
from ppseg_jax.data.label_files import read_labels
from ppseg_jax.data.labels import VOID, LabelSpace
from ppseg_jax.data.own import is_held, space_of
from ppseg_jax.encryption import BlockScramble, Scheme, get_scheme, ops_of
from ppseg_jax.errors import UserError

NAME = "encrypted"  # of the source
FILE = "encrypted.json"
_KEYS = {"format", "scheme", "block", "width", "height", "labels", "classes"}
_WRITE = "python -m ppseg_jax.client encrypt PICTURES {} --labels=LABELS"


def moves_blocks(scheme: str | Scheme) -> bool:
  """Whether ciphertexts do not show where blocks were."""
  return bool(ops_of(get_scheme(scheme), BlockScramble))


@dataclasses.dataclass(frozen=True)
class Declaration:
  """What a contribution says of itself.

  Attributes:
    scheme: name of it.
    block: its block size in pixels.
    width: of every ciphertext, in pixels.
    height: likewise.
    labels: `places` or `amounts`, see above.
    space: the classes.
  """

  scheme: str
  block: int
  width: int
  height: int
  labels: str
  space: LabelSpace

  def to_text(self) -> str:
    """The content of encrypted.json."""
    entries = [
        {"id": i, "name": name, "colour": list(colour)} for i, (name, colour)
        in enumerate(zip(self.space.names, self.space.colours, strict=True))
    ]
    entries.append({"id": VOID, "name": "void", "void": True})
    head = json.dumps({
        "format": 1, "scheme": self.scheme, "block": self.block,
        "width": self.width, "height": self.height, "labels": self.labels,
    })
    lines = ",\n".join(f"  {json.dumps(entry)}" for entry in entries)
    return f'{head[:-1]}, "classes": [\n{lines}\n]}}\n'

  def facts(self) -> dict[str, str]:
    """In words what all contributions to a run must have in common."""
    return {
        "scheme": self.scheme, "block": str(self.block),
        "size": f"{self.width}x{self.height}", "labels": self.labels,
        "classes": ", ".join(self.space.names),
    }


def read_declaration(folder: Path) -> Declaration:
  """What `folder/encrypted.json` says; UserError where it is none."""
  path = folder / FILE
  try:
    value = json.loads(path.read_text())
  except FileNotFoundError:
    raise UserError(
        f"'{folder}' has no {FILE}, which {_WRITE.format(folder)} writes; give"
        " folders that it wrote with --config.data.dir=A,B."
    ) from None
  except (ValueError, OSError, RecursionError):
    raise UserError(f"{path} is not valid JSON; get the file again.") from None
  if not isinstance(value, dict) or value.get("format") != 1:
    raise UserError(
        f"{path} is not of format 1, which this version of ppseg_jax reads; get"
        " the file again, or update ppseg_jax."
    )
  numbers = [value.get(name) for name in ("block", "width", "height")]
  if not (
      value.keys() == _KEYS and isinstance(value["classes"], list)
      and isinstance(value["scheme"], str)
      and value["labels"] in ("places", "amounts")
      and all(type(x) is int and x > 0 for x in numbers)
      and numbers[1] % numbers[0] == numbers[2] % numbers[0] == 0
  ):
    raise UserError(f"{path} is damaged; get the file again.")
  space = dataclasses.replace(space_of(value["classes"], path), name=NAME)
  if space.raw_to_train != {
      **{i: i for i in range(space.num_classes)}, VOID: VOID
  }:
    raise UserError(
        f"{path} must number its classes from 0 and have {VOID} for void; get"
        " the file again."
    )
  return Declaration(value["scheme"], *numbers, value["labels"], space)


def folders_of(text: str) -> list[Path]:
  """The folders that `data.dir` names; UserError for none, or one twice."""
  found = [Path(part.strip()).expanduser() for part in text.split(",")
           if part.strip()]
  if not found:
    raise UserError(
        f"data.name={NAME} needs the clients' folders, as"
        " --config.data.dir=A,B,C."
    )
  twice = [path for path in found if found.count(path) > 1]
  if twice:
    raise UserError(f"data.dir names '{twice[0]}' twice; give it once.")
  return found


def contributions(text: str) -> list[tuple[str, Path, Declaration]]:
  """(split, folder, what it says) of all that `data.dir` names.

  Raises UserError for a folder that is none, and where two do not fit.
  """
  found = []
  for folder in folders_of(text):
    places = [("train", folder), ("train", folder / "train"),
              ("val", folder / "val")]
    there = [place for place in places if (place[1] / FILE).exists()]
    found += [(split, at, read_declaration(at))
              for split, at in there or places[:1]]
  _, first, declared = found[0]
  for _, folder, other in found[1:]:
    for name, value in declared.facts().items():
      if other.facts()[name] != value:
        raise UserError(
            f"the contributions '{first}' and '{folder}' do not fit: {name} is"
            f" {value} in the one and {other.facts()[name]} in the other; train"
            " on those that fit, or have one made anew."
        )
  return found


def declaration(text: str) -> Declaration:
  """What the contributions of `data.dir` have in common."""
  return contributions(text)[0][2]


def check(
    data: ml_collections.ConfigDict, scheme: str, block: int,
    field: str = "scheme",
) -> None:
  """Raises UserError where a config says otherwise than the contributions.

  Args:
    data: the config's section.
    scheme: that the config has for these images.
    block: likewise.
    field: of the config that the scheme is of.
  """
  declared = declaration(data.dir)
  for name, given, value in (
      (field, get_scheme(scheme).name, declared.scheme),
      ("block", block, declared.block),
      ("data.height", data.height, declared.height),
      ("data.width", data.width, declared.width),
  ):
    if given != value:
      raise UserError(
          f"{name}={given}, but the images in {data.dir} come encrypted with"
          f" {name.rpartition('.')[2]} {value}; use --config.{name}={value}, or"
          " other contributions."
      )
  expected = "amounts" if moves_blocks(scheme) else "places"
  if declared.labels != expected:
    raise UserError(
        f"the labels in {data.dir} are of {declared.labels}, but scheme"
        f" '{declared.scheme}' gives {expected} here; both sides need the same"
        " scheme of that name."
    )


def find(data: ml_collections.ConfigDict, split: str) -> Found:
  """The files of `train` or `val`, folder after folder.

  Of the folders `val`; or, with `data.val_share`, of train, where a hash of an
  image's path in its folder says whether it is of val.
  """
  share, all_parts = data.val_share, contributions(data.dir)
  given = any(of == "val" for of, _, _ in all_parts)
  if given and share:
    raise UserError(
        f"data.dir={data.dir} has a folder val, but data.val_share={share}"
        " takes a part of train instead; use data.val_share=0, or leave the"
        " folder val out."
    )
  wanted = "train" if share else split
  pairs, skipped = [], 0
  for of, folder, _ in all_parts:
    if of != wanted:
      continue
    images = folder / "images"
    found = by_names(images, folder / "labels")
    skipped += found.skipped
    pairs += [
        pair for pair in found.pairs if not share or (split == "val")
        == is_held(pair[0].relative_to(images), share)
    ]
  if not pairs:
    raise UserError(
        f"data.dir={data.dir} holds no images of {split}; give folders with"
        f" some in {split}"
        + (", or hold a part of train out with --config.data.val_share=0.2."
           if split == "val" else ".")
    )
  return Found(pairs, skipped)


Read = Callable[[Path, Path], tuple[np.ndarray, np.ndarray, None]]


def reader(declared: Declaration) -> Read:
  """(image's path, labels' path) -> what `folders.read_pair` gives.

  It raises UserError for an image or labels that are not as declared.
  """
  def read(image_path: Path, label_path: Path):
    try:
      image, header = pictures.read_cipher(image_path)
    except UserError as error:
      raise UserError(f"{image_path} {error}") from None
    size = (declared.height, declared.width)
    if (header.scheme, header.block, image.shape[:2]) != (
        declared.scheme, declared.block, size
    ):
      raise UserError(
          f"{image_path} is of {image.shape[1]}x{image.shape[0]} pixels under"
          f" scheme '{header.scheme}' with blocks of {header.block}, and not"
          " what its declaration says; get the file again."
      )
    labels, _ = read_labels(label_path)
    if labels.shape != size:
      raise UserError(
          f"{label_path}: labels of {labels.shape[1]}x{labels.shape[0]} pixels"
          f" do not fit the image, {image_path}; get the files again."
      )
    return np.broadcast_to(image, (*size, 3)), labels, None

  return read


class Contributed:
  """The images of contributions as they came, and their labels."""

  def __init__(self, found: Found, declared: Declaration):
    self.label_space = declared.space
    self.files, self.skipped = found
    self._read = reader(declared)

  def __len__(self) -> int:
    return len(self.files)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    """(ciphertext uint8 [H, W, 3], labels uint8 [H, W] of train ids)."""
    image_path, label_path = self.files[index]
    image, labels, _ = self._read(image_path, label_path)
    return image, self.label_space.to_train_ids(labels, str(label_path))


def load(data: ml_collections.ConfigDict, split: str) -> Contributed:
  """The images of `train` or `val`; UserError as `find` raises it."""
  return Contributed(find(data, split), declaration(data.dir))


def check_config(config: ml_collections.ConfigDict) -> None:
  """What a config may not ask for where images come encrypted.

  No file is looked at, so that a trained model can be used without its data.
  Raises UserError for the first field that cannot be had.
  """
  if config.data.name == NAME and config.setting != "cloud":
    raise UserError(
        f"setting={config.setting} augments plain images, but with data.name="
        f"{NAME} they come encrypted; use setting=cloud."
    )
  tested = config.eval.data_name or config.data.name
  for name, plan, adapting, adapt in (
      (config.data.name, "key_plan", "start.adapt", config.start.adapt),
      (tested, "eval.key_plan", "eval.adapt", config.eval.adapt),
  ):
    if name != NAME:
      continue
    section = config.eval if plan.startswith("eval.") else config
    if section.key_plan != "image":
      raise UserError(
          f"{plan}={section.key_plan} has no meaning for images that come"
          f" encrypted ({NAME}): each has a key of its own, which its client"
          " has or nobody; leave it empty."
      )
    if adapt:
      raise UserError(
          f"{adapting} needs a key that images share, but each that comes"
          f" encrypted ({NAME}) has a key of its own, which its client has or"
          " nobody; use False."
      )
  if config.data.name != NAME:
    return
  data = config.data
  for name, neutral, why in (
      ("resize", "exact", "would mix the values of blocks"),
      ("scale_min", 1.0, "would mix the values of blocks"),
      ("scale_max", 1.0, "would mix the values of blocks"),
      ("photometric", 0.0, "changes plain images"),
  ):
    if data[name] != neutral:
      raise UserError(
          f"data.{name}={data[name]} {why}, but with data.name={NAME} the"
          " images come encrypted: windows on the block grid and"
          f" data.flip=True are all that may augment them; use {neutral}."
      )
  if moves_blocks(config.scheme) and moves_blocks(config.model.form):
    raise UserError(
        f"model.form={config.model.form} sorts the blocks of an image, so that"
        " labels of blocks do not fit; use the form of the scheme that leaves"
        " blocks in place."
    )

