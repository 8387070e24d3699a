"""What protected regions cost, and what the attack `rank` makes of them.

python -m benchmarks.protected --workdir=runs/camvid/blockwise-0 \
    --classes=pedestrian,bicyclist --json=protected.json

The regions are boxes around each connected part of the classes' true labels.
For no protection and each kind of cell: the share of blocks protected, mIoU and
pixel accuracy inside the boxes and outside of them (of the same pixels,
whatever is protected), and the attack's SSIM inside the boxes and outside, the
better each of two: that takes cells for blocks of their size, where the picture
consists of such, and that does not know of them.
"""

import json
from pathlib import Path

import jax
import ml_collections
import numpy as np
from absl import app, flags, logging
from scipy import ndimage

from ppseg_jax import config as config_checks
from ppseg_jax import data, evaluate, metrics, sharding
from ppseg_jax.attacks import readers
from ppseg_jax.attacks.parts.scores import ssim_map
from ppseg_jax.encryption import get_scheme, image_keys, key_from_seed, regions
from ppseg_jax.encryption.keys import EVAL
from ppseg_jax.runs import model as models
from ppseg_jax.runs import workdir
from ppseg_jax.windows import windows_of

_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the trained run.")
_CLASSES = flags.DEFINE_list("classes", [], "Whose boxes are protected.")
_SMALLEST = flags.DEFINE_integer("smallest", 12, "Pixels of a part with a box.")
_IMAGES = flags.DEFINE_integer("images", 0, "Of the test split; 0: all.")
_ATTACKED = flags.DEFINE_integer("attacked", 24, "Of these, attacked as well.")
_JSON = flags.DEFINE_string("json", "", "File to write.")
_CELLS = {"none": None, "2": 2, "4": 4, "8": 8, "region": regions.REGION}


def boxes_around(labels: np.ndarray, ids: list[int], smallest: int):
  """The mask, bool [H, W], of boxes around the parts of these classes."""
  mask = np.zeros(labels.shape, bool)
  for each in ids:
    parts, _ = ndimage.label(labels == each, np.ones((3, 3)))
    for i, box in enumerate(ndimage.find_objects(parts), 1):
      if (parts[box] == i).sum() >= smallest:
        mask[box] = True
  return mask


def main(_):
  logging.set_verbosity(logging.ERROR)
  folder = Path(_WORKDIR.value)
  config = ml_collections.ConfigDict(
      workdir.read_json(workdir.Workdir(folder).config)
  )
  config_checks.fill_in(config)
  source = data.load(config.data, config.eval.split)
  space, block = source.label_space, config.block
  if unknown := set(_CLASSES.value) - set(space.names):
    raise app.UsageError(f"--classes={','.join(sorted(unknown))}: the data has"
                         f" {', '.join(space.names)}.")
  ids = [space.names.index(name) for name in _CLASSES.value]
  trained = models.load(
      config, folder, space.num_classes, sharding.make_mesh(config.mesh)
  )
  scheme = get_scheme(config.eval.scheme or config.scheme)

  @jax.jit
  def seal(key, image, cells):
    return regions.encrypt(scheme, key, image, cells, block)

  @jax.jit
  def read(variables, image):
    return evaluate.predict_logits(
        trained.model, variables, image[None], windows_of(config)
    )[0].argmax(-1)

  kinds = {}
  for name in _CELLS:
    kinds[name] = {"matrix": np.zeros((2, space.num_classes,
                                       space.num_classes), np.int64),
                   "protected": [], "ssim": []}
  count = min(_IMAGES.value or len(source), len(source))
  for index in range(count):
    image, labels = source[index]
    mask = boxes_around(labels, ids, _SMALLEST.value)
    key = image_keys("image", key_from_seed(config.seed), np.array([index]),
                     np.array([0]), EVAL, 1)[0]
    for name, cell in _CELLS.items():
      cells = np.zeros((labels.shape[0] // block, labels.shape[1] // block),
                       np.int32)
      if cell is not None:
        cells = regions.cells_of(mask, block, cell, scheme)
      sealed = np.asarray(seal(key, image, cells))
      found = np.asarray(read(trained.variables, sealed))
      kind = kinds[name]
      kind["protected"].append(float((cells > 0).mean()))
      for side, where in enumerate((mask, ~mask)):
        known = where & (labels < space.num_classes)
        np.add.at(kind["matrix"][side], (labels[known], found[known]), 1)
      if index * _ATTACKED.value // count < (
          (index + 1) * _ATTACKED.value // count
      ):
        found = []
        for side in dict.fromkeys((None, cell)):
          (guess,) = readers.attacked("rank", scheme, block, [sealed], side)
          like, radius = ssim_map(image, guess)
          inner = mask[radius:-radius, radius:-radius]
          found.append([like[inner].sum(), inner.sum(), like[~inner].sum(),
                        (~inner).sum()])
        kind["ssim"].append(found)
  rows = []
  for name, kind in kinds.items():
    inside, outside = (metrics.summarise(matrix, space.names)
                       for matrix in kind["matrix"])
    like = np.sum(kind["ssim"], 0)  # [attempts, 4]
    rows.append({
        "cell": name, "images": count,
        "protected": float(np.mean(kind["protected"])),
        "inside": {x: inside[x] for x in ("miou", "pixel_accuracy")},
        "outside": {x: outside[x] for x in ("miou", "pixel_accuracy")},
        "ssim_inside": float((like[:, 0] / like[:, 1]).max()),
        "ssim_outside": float((like[:, 2] / like[:, 3]).max()),
    })
    row = rows[-1]
    print(f"| {name} | {row['protected']:.1%} |"
          f" {row['inside']['miou']:.1%}, {row['inside']['pixel_accuracy']:.1%}"
          f" | {row['outside']['miou']:.1%},"
          f" {row['outside']['pixel_accuracy']:.1%} |"
          f" {row['ssim_inside']:.2f}, {row['ssim_outside']:.2f} |", flush=True)
  if _JSON.value:
    Path(_JSON.value).write_text(json.dumps({
        "workdir": folder.name, "scheme": scheme.name, "block": block,
        "classes": _CLASSES.value, "rows": rows,
    }, indent=1) + "\n")


if __name__ == "__main__":
  app.run(main)
