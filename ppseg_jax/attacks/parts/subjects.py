"""What readers are tried on: lines of text, faces, people, in a user's folder.

    texts    pictures and texts.json, which gives for each of them lines and
             where they lie, in pixels: {"a.jpg": [{"text": "NO PARKING",
             "box": [left, top, right, bottom]}]}
    persons  pictures and boxes.json, of a box around each person:
             {"a.jpg": [[left, top, right, bottom]]}
    faces    a folder for each person, of pictures of one face each: the first
             by name is known to whoever looks, the others are to be recognised

Nothing of what the files say is in this package.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
from PIL import Image

from ppseg_jax.attacks.parts.right import Box, letters
from ppseg_jax.client import detect
from ppseg_jax.client.protect import each_once
from ppseg_jax.errors import UserError
from ppseg_jax.pictures import list_pictures, read_rgb

UNIT = 64  # pixels, of which windows are multiples
_AROUND = 1.5  # sides of a window by those of what it shows, at least


@dataclasses.dataclass(frozen=True)
class Subject:
  """Something in a picture.

  Attributes:
    name: of the picture.
    image: uint8 [H, W, 3].
    box: around it, in pixels.
    truth: the text, or who it is; '' of people.
  """

  name: str
  image: np.ndarray
  box: Box
  truth: str = ""


def window(subject: Subject, size: int) -> Subject:
  """The same with its picture resized and cut, so that the box is `size` high.

  The window is a multiple of UNIT high, at least half as high again as the box,
  and as wide, or 2, 4, 8 ... times as wide where the box asks for it; so few
  shapes are to be compiled. Outside of the picture its border goes on.
  """
  left, top, right, bottom = subject.box
  scale = size / (bottom - top)
  high = -(-round(size * _AROUND) // UNIT) * UNIT
  wide = high
  while wide < (right - left) * scale + size * (_AROUND - 1):
    wide *= 2
  middle = np.array([left + right, top + bottom]) / 2
  half = np.array([wide, high]) / 2 / scale
  height, width, _ = subject.image.shape
  beyond = np.ceil([
      *(half - middle), *(middle + half - [width, height])
  ]).max(initial=0).astype(int)
  image = np.pad(subject.image, [(beyond,) * 2] * 2 + [(0, 0)], "edge")
  corners = np.concatenate([middle - half, middle + half]) + beyond
  image = Image.fromarray(image).resize(
      (wide, high), Image.Resampling.BICUBIC, tuple(corners)
  )
  across, down = (right - left) * scale / 2, size / 2
  box = (wide / 2 - across, high / 2 - down, wide / 2 + across, high / 2 + down)
  return dataclasses.replace(subject, image=np.asarray(image), box=box)


def of_texts(folder: Path) -> list[Subject]:
  """The lines that texts.json gives; UserError for what is no such folder."""
  found = []
  for name, lines in _listed(folder, "texts.json").items():
    image = _picture(folder, name)
    for line in lines:
      box, text = line.get("box"), line.get("text")
      if not isinstance(text, str) or not letters(text):
        raise UserError(
            f"{folder / 'texts.json'}: '{name}' has a line whose text is"
            f" {text!r}; give what is to be read, with a letter or digit."
        )
      found.append(Subject(name, image, _box(folder, name, box, image), text))
  return _some(found, folder, "lines of text")


def of_persons(folder: Path) -> list[Subject]:
  """The boxes that boxes.json gives; UserError for what is no such folder."""
  found = []
  for name, boxes in _listed(folder, "boxes.json").items():
    image = _picture(folder, name)
    found += [
        Subject(name, image, _box(folder, name, box, image)) for box in boxes
    ]
  return _some(found, folder, "persons")


def of_faces(folder: Path) -> tuple[list[Subject], list[Subject], list[str]]:
  """(who is known, faces to be recognised, pictures without a face).

  A face is where OpenCV finds the largest one in the plain picture, of at least
  an eighth of its shorter side; where it finds none the picture is left out.
  Raises UserError for a folder without two persons, or without two pictures of
  any.
  """
  if not folder.is_dir():
    raise UserError(f"'{folder}' is no folder; give one of faces by person.")
  known, probes, without = [], [], []
  for person in sorted(path for path in folder.iterdir() if path.is_dir()):
    paths, _ = list_pictures(person)
    faces = []
    for path in paths:
      image, name = read_rgb(path), f"{person.name}/{path.name}"
      boxes = detect.faces(image, min(image.shape[:2]) // 8)
      if boxes:
        box = max(boxes, key=lambda box: box[2] - box[0])
        faces.append(Subject(name, image, box, person.name))
      else:
        without.append(name)
    known += faces[:1]
    probes += faces[1:]
  if len(known) < 2 or not probes:
    raise UserError(
        f"'{folder}' has faces of {len(known)} person(s), {len(probes)} to be"
        " recognised; give a folder for each of several persons, with two"
        " pictures or more of one at least."
    )
  return known, probes, without


def _listed(folder: Path, name: str) -> dict[str, list]:
  path = folder / name
  try:
    found = json.loads(path.read_text(), object_pairs_hook=each_once)
  except OSError as error:
    raise UserError(
        f"{path} cannot be read ({error.strerror}); it must say what is in the"
        " pictures beside it."
    ) from None
  except (ValueError, RecursionError) as error:
    raise UserError(f"{path} is no JSON for this ({error}).") from None
  if not isinstance(found, dict) or not all(
      isinstance(each, list) for each in found.values()
  ):
    raise UserError(f"{path} must give a list for each picture's name.")
  kind = dict if name == "texts.json" else list
  for picture, each in found.items():
    if not all(isinstance(x, kind) for x in each):
      raise UserError(
          f"{path}: what it gives for '{picture}' is not of the form that"
          " docs/security.md shows."
      )
  return found


def _picture(folder: Path, name: str) -> np.ndarray:
  if not (folder / name).is_file():
    raise UserError(
        f"{folder / name} does not exist, but a file beside it names it; mend"
        " the name."
    )
  return read_rgb(folder / name)


def _box(folder: Path, name: str, box: object, image: np.ndarray) -> Box:
  height, width, _ = image.shape
  try:
    left, top, right, bottom = map(float, box if isinstance(box, list) else ())
    good = (0 <= left <= right - 1 <= width - 1
            and 0 <= top <= bottom - 1 <= height - 1)
  except (TypeError, ValueError):
    good = False
  if not good:
    raise UserError(
        f"{folder}: the box {box} of '{name}' is not [left, top, right, bottom]"
        f" inside its {width}x{height} pixels, of a pixel each way at least."
    )
  return left, top, right, bottom


def _some(found: list[Subject], folder: Path, what: str) -> list[Subject]:
  if not found:
    raise UserError(f"'{folder}' has no {what}; name some.")
  return found
