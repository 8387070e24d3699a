"""Label spaces, each declared once, for loader, loss, metric and panels."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from ppseg_jax.errors import UserError

VOID = 255  # train id of pixels that neither loss nor metric counts


@dataclasses.dataclass(frozen=True)
class LabelSpace:
  """The classes of a data set.

  Attributes:
    name: of the label space.
    names: class names, indexed by train id.
    colours: RGB of each class, 0 to 255, indexed by train id.
    raw_to_train: raw id in the label file -> train id, or VOID. A raw id that
      is not a key here is refused.
    raw_colours: RGB in a label file that holds colours -> raw id; empty where
      label files hold ids.
  """

  name: str
  names: tuple[str, ...]
  colours: tuple[tuple[int, int, int], ...]
  raw_to_train: Mapping[int, int]
  raw_colours: Mapping[tuple[int, int, int], int] = dataclasses.field(
      default_factory=dict
  )

  def to_json(self) -> dict:
    """Plain values, of which `from_json` makes the same label space."""
    return {
        "name": self.name,
        "names": list(self.names),
        "colours": [list(colour) for colour in self.colours],
        "raw_to_train": [list(pair) for pair in self.raw_to_train.items()],
        "raw_colours": [[*rgb, raw] for rgb, raw in self.raw_colours.items()],
    }

  @property
  def num_classes(self) -> int:
    return len(self.names)

  @functools.cached_property
  def _lookup(self) -> bytes:  # train id by raw id; VOID where it is unknown
    return bytes(self.raw_to_train.get(raw, VOID) for raw in range(256))

  @functools.cached_property
  def _inverse(self) -> np.ndarray:  # uint8 [256], 255 where nothing maps
    table = np.full(256, VOID, np.uint8)
    for raw, train in reversed(self.raw_to_train.items()):
      table[train] = raw
    return table

  @functools.cached_property
  def _of_colours(self) -> np.ndarray:  # int16 [2**24], -1 where unknown
    table = np.full(1 << 24, -1, np.int16)
    for (red, green, blue), raw in self.raw_colours.items():
      table[red << 16 | green << 8 | blue] = raw
    return table

  @functools.cached_property
  def palette(self) -> np.ndarray:
    """uint8 [256, 3]: colour by train id; void is black."""
    table = np.zeros((256, 3), np.uint8)
    table[: self.num_classes] = self.colours
    return table

  def to_train_ids(self, raw: np.ndarray, where: str) -> np.ndarray:
    """Maps raw ids, uint8 [H, W], to train ids, uint8 [H, W].

    Raises UserError, naming `where` and the ids, for raw ids outside the space.
    """
    content = raw.tobytes()  # bytes.translate is four times as fast as NumPy
    unknown = content.translate(None, bytes(self.raw_to_train))
    if unknown:
      raise UserError(
          f"{where}: label ids {sorted(set(unknown))} are not in the label"
          f" space '{self.name}', which knows {sorted(self.raw_to_train)};"
          " convert the labels or choose the data set they belong to."
      )
    train = np.frombuffer(content.translate(self._lookup), np.uint8)
    return train.reshape(raw.shape)

  def ids_of_colours(self, rgb: np.ndarray, where: str) -> np.ndarray:
    """Maps the colours of a label file, uint8 [H, W, 3], to raw ids [H, W].

    Raises UserError, naming `where` and some of the colours, for colours
    outside the space.
    """
    packed = pack(rgb)
    raw = self._of_colours[packed]
    if (raw < 0).any():
      unknown = [unpack(x) for x in np.unique(packed[raw < 0])]
      more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
      raise UserError(
          f"{where}: the colours {str(unknown[:3])[1:-1]}{more} are of no class"
          f" of '{self.name}'; mend the labels, or declare the colours."
      )
    return raw.astype(np.uint8)

  def to_raw_ids(self, train: np.ndarray) -> np.ndarray:
    """Maps train ids, uint8 [H, W], to raw ids, uint8 [H, W].

    Where several raw ids have one train id, void say, the first of
    `raw_to_train` is taken.
    """
    return self._inverse[train]

  def colourise(self, labels: np.ndarray) -> np.ndarray:
    """Train ids, uint8 [H, W] -> RGB, uint8 [H, W, 3]."""
    return self.palette[labels]


def pack(rgb: np.ndarray) -> np.ndarray:
  """Colours, uint8 [..., 3], as one number each, int32 [...]."""
  return rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def unpack(packed: int) -> tuple[int, int, int]:
  """The colour of a number of `pack`."""
  return int(packed) >> 16, int(packed) >> 8 & 255, int(packed) & 255


def from_json(value: dict) -> LabelSpace:
  """The label space of which `LabelSpace.to_json` made these values."""
  return LabelSpace(
      value["name"], tuple(value["names"]),
      tuple(tuple(colour) for colour in value["colours"]),
      dict(value["raw_to_train"]),
      {tuple(rgb): raw for *rgb, raw in value["raw_colours"]},
  )


def distinct_colour(i: int) -> tuple[int, int, int]:
  """The colour that PASCAL VOC's development kit gives index i, 0 to 255.

  The bits of the index are dealt to red, green and blue in turn, high bits
  first, so that near indices differ well; 0 is black.
  """
  channels = [0, 0, 0]
  for bit in range(8):
    channels[bit % 3] |= (i >> bit & 1) << (7 - bit // 3)
  return tuple(channels)


_CITYSCAPES = (  # raw labelId, name, colour, in the order of train ids
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)

# The 34 labelIds of the official annotation, 0 to 33; those the benchmark does
# not evaluate are void (cityscapesScripts, helpers/labels.py).
CITYSCAPES = LabelSpace(
    name="cityscapes",
    names=tuple(name for _, name, _ in _CITYSCAPES),
    colours=tuple(colour for _, _, colour in _CITYSCAPES),
    raw_to_train=dict.fromkeys(range(34), VOID)
    | {raw: train for train, (raw, _, _) in enumerate(_CITYSCAPES)},
)

# The 11 classes of the SegNet form of CamVid, shown in the colours that
# Cityscapes has for the like classes.
_CAMVID = ("sky", "building", "pole", "road", "sidewalk", "vegetation",
           "traffic sign", "fence", "car", "person", "bicycle")
CAMVID = LabelSpace(
    name="camvid",
    names=("sky", "building", "pole", "road", "pavement", "tree", "sign",
           "fence", "car", "pedestrian", "bicyclist"),
    colours=tuple(
        CITYSCAPES.colours[CITYSCAPES.names.index(name)] for name in _CAMVID
    ),
    raw_to_train={i: i for i in range(11)} | {11: VOID},
)
