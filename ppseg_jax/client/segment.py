"""A folder of pictures segmented by a server that sees none of them.

Each picture is encrypted under a fresh key, which is forgotten once the answer
is in place. OUT_DIR gets, for a/b.jpg, the class ids as `labels/a/b.png`, with
the classes' colours as palette, and `overlays/a/b.png`; and `labels.json`,
which names the classes and says how it was asked. All is for its owner alone:
an overlay shows the plain picture.
"""

import dataclasses
import functools
import hashlib
import json
import math
from pathlib import Path, PurePath

import jax
import ml_collections
import numpy as np

from ppseg_jax import pictures, viz
from ppseg_jax.client import answers, files, walk
from ppseg_jax.client.cloud import LABELS, LOGITS, Cloud, Model, clean
from ppseg_jax.client.folders import check_folders
from ppseg_jax.client.noise import Noise
from ppseg_jax.client.protect import Protection
from ppseg_jax.client.walk import Summary
from ppseg_jax.data import label_files
from ppseg_jax.data.sizes import input_size, largest, resize
from ppseg_jax.encryption import (
    BlockScramble,
    Scheme,
    at_level,
    compact,
    encrypt,
    fresh_keys,
    layout,
    ops_of,
    regions,
    representative,
)
from ppseg_jax.encryption.compare import shows_no_more
from ppseg_jax.encryption.schemes import squares_of
from ppseg_jax.errors import UserError
from ppseg_jax.refine import network

_INDEX = PurePath("labels.json")


@dataclasses.dataclass(frozen=True)
class Refiner:
  """The client's network: of a file, with its sha256."""

  net: network.Refiner
  params: dict
  sha256: str


@dataclasses.dataclass(frozen=True)
class Options:
  """How a client has its pictures segmented.

  Attributes:
    form: send the canonical form in the place of a ciphertext: no key at all.
    compact: and that in few bytes, not as a picture.
    refiner: refine with the plain picture, here.
    resize: 'HxW', or 'N' for the shorter side: the size to bring pictures to
      before they are encrypted; '' for their own. Labels have their own.
    level: show no more than this, as `q4`; '' for all that the scheme shows.
    noise: send releases of pictures, whose level is then `level`.
    padding: pad pictures to whole blocks, which shows more of their last rows
      and columns (`pictures.pad`); otherwise those that need it fail.
    jobs: pictures at a time.
    protection: the regions to protect.
  """

  form: bool = False
  compact: bool = False
  refiner: Refiner | None = None
  resize: str = ""
  level: str = ""
  noise: Noise | None = None
  padding: bool = True
  jobs: int = 4
  protection: Protection | None = None


def sent_as(model: Model, level: str) -> Scheme:
  """What pictures are encrypted by: the server's scheme, at a level of it."""
  return at_level(model.scheme, level) if level else model.scheme


def check_leak(
    model: Model, limit: Scheme, block: int, level: str = ""
) -> None:
  """Raises UserError where what is sent shows more than is allowed.

  Args:
    model: of the server.
    limit: the scheme that shows as much as may be.
    block: its block size in pixels.
    level: that pictures are sent at.
  """
  if not shows_no_more(sent_as(model, level), model.block, limit, block):
    raise UserError(
        f"the server reads '{model.scheme.name}' in blocks of {model.block},"
        f" which may show what '{limit.name}' in blocks of {block} hides:"
        f" {model.scheme.leaks} If that may be seen, allow it with"
        f" --at-most={model.scheme.name} --smallest-block={model.block}."
    )


def read_refiner(path: Path, model: Model) -> Refiner:
  """What --mode=refine exported; UserError where it is not of these classes."""
  net, params, names = network.load_exported(path)
  if tuple(clean(name, 80) for name in names) != model.names:
    raise UserError(
        f"--refine={path} is for other classes than the server's; give the"
        " refiner of its model."
    )
  if _unit(model) % net.factor:
    raise UserError(
        f"--refine={path} folds {net.factor}x{net.factor} pixels, which does"
        f" not fit blocks of {model.block}; give the refiner of its model."
    )
  return Refiner(net, params, hashlib.sha256(path.read_bytes()).hexdigest())


def segment_folder(
    source: Path, out: Path, cloud: Cloud, model: Model, options: Options
) -> Summary:
  """Has each picture of a folder segmented.

  A picture that is done is not sent again. The labels are those that the server
  makes of its logits; where it has only logits to give, or they are resized or
  refined here, they are made of its logits of each patch in half precision.

  Args:
    source: the folder of the pictures.
    out: the folder of the answers; may exist.
    cloud: the server.
    model: what it says of itself.
    options: how.

  Raises:
    UserError: where nothing can be done at all.
    Unreachable: the server does not answer in time.
  """
  check_folders(source, out)
  _check_options(model, options)
  paths, skipped, _ = walk.find_part(source)
  palette, scheme = _palette(model), sent_as(model, options.level)
  padded, large, unprotected = [], [], []
  ready = max((height for height, _ in model.sizes), default=math.inf)

  def one(path: Path, output: files.Output) -> bool:
    labels_at = "labels" / path.with_suffix(".png")
    overlay_at = "overlays" / path.with_suffix(".png")
    there = output.has(labels_at)
    if there and output.has(overlay_at):
      _check_size(out / labels_at, pictures.read_size(source / path)[::-1])
      return False
    image = pictures.read_picture(source / path)
    image = np.broadcast_to(image, (*image.shape[:2], 3))
    size = image.shape[:2]
    if there:
      labels = _check_size(out / labels_at, size)
    else:
      small = resize(image, _sent_size(options, size))
      if small.shape[:2] != _padded(model, scheme, small.shape)[1]:
        padded.append(path.as_posix())
      if len(small) >= 2 * ready:
        large.append(path.as_posix())
      mask = options.protection and options.protection.find(path, image)
      if mask is not None and not mask.any():
        unprotected.append(path.as_posix())
      labels = _labels(cloud, model, options, small, size, mask)
      output.write(labels_at, pictures.encode_labels(labels, palette))
    overlay = viz.overlay(image, palette[labels])
    output.write(overlay_at, pictures.encode(overlay))
    return True

  with files.Output(out, private=True) as output:
    output.remove_leftovers()
    _keep_index(output, out, _index(model, options))
    summary = walk.each(
        "segmented", paths, output, one, options.jobs, cloud.stop
    )
  return dataclasses.replace(
      summary, skipped=skipped, padded=sorted(padded), large=sorted(large),
      unprotected=sorted(unprotected),
  )


def _check_options(model: Model, options: Options) -> None:
  if options.protection:
    scheme = sent_as(model, options.level)
    regions.unit_of(scheme)
    regions.check_cell(options.protection.cell, scheme)
  if options.form and (model.scheme.hidden or not model.forms):
    raise UserError(
        "--form: the server does not take canonical forms, since its model"
        " reads more or places are hidden; leave it out."
    )
  if options.compact and compact.KIND not in model.uploads:
    raise UserError(
        "--compact: the server takes pictures as PNG only; leave it out."
    )
  wanted = LOGITS if _needs_logits(model, options) else LABELS
  if wanted not in model.answers:
    raise UserError(
        f"the server does not answer with {wanted}, which is needed here; leave"
        " out --refine and --resize, or ask another server."
    )


def _needs_logits(model: Model, options: Options) -> bool:
  return bool(model.scheme.hidden or options.refiner or options.resize)


def _unit(model: Model) -> int:
  return math.lcm(model.block, model.patch)


def _padded(
    model: Model, scheme: Scheme, size: tuple[int, ...]
) -> tuple[tuple[int, int], tuple[int, int]]:
  """(what a picture is padded to multiples of, in turn; its size in the end).

  First to whole blocks, or squares of blocks that are taken together; then to
  whole patches, by whole blocks alone: a server chooses its patch, and copies
  that lay askew on the blocks would show the picture's shifts.

  Raises UserError for a picture that is not whole in the bands to hide in (its
  padding would tell the rows of blocks apart), or is too large.
  """
  first = model.block * squares_of(scheme)
  unit = math.lcm(first, model.patch)
  height, width = (-(-side // unit) * unit for side in size[:2])
  for op in ops_of(scheme, BlockScramble):
    if op.height and height // model.block % op.height:
      raise UserError(
          f"its height {size[0]} is not whole in bands of {op.height} rows of"
          f" blocks of {model.block}, in which its blocks are hidden; crop it,"
          " or bring it there with --resize."
      )
  if height > model.largest[0] or width > model.largest[1]:
    raise UserError(
        f"its size {size[1]}x{size[0]} is above the largest that the server"
        f" takes, {model.largest[1]}x{model.largest[0]}; --resize sends it"
        " smaller."
    )
  return (first, unit), (height, width)


def _sent_size(options: Options, size: tuple[int, int]) -> tuple[int, int]:
  if not options.resize:
    return size
  height, _, width = options.resize.partition("x")
  return input_size(ml_collections.ConfigDict({
      "resize": "exact" if width else "shorter",
      "height": int(height), "width": int(width or height),
  }), size)


def _labels(
    cloud: Cloud, model: Model, options: Options, image: np.ndarray,
    size: tuple[int, int], mask: np.ndarray | None,
) -> np.ndarray:
  """The class ids, uint8 [*size], of an image of the size that is sent.

  The mask, bool [*size], says what of it is protected, if anything is.
  """
  scheme, (height, width) = sent_as(model, options.level), image.shape[:2]
  units, whole_size = _padded(model, scheme, image.shape)
  if not options.padding and (height, width) != whole_size:
    raise UserError(
        f"its size {width}x{height} is not a multiple of {_unit(model)}; crop"
        " it, or leave out --no-pad."
    )
  if options.noise and (height, width) != whole_size:
    raise UserError(
        f"its size {width}x{height} is not a multiple of {_unit(model)}, and"
        " padding would repeat pixels, each of which counts; crop it, or bring"
        " it there with --resize=HxW."
    )
  whole = functools.reduce(pictures.pad, units, image)
  released = whole
  if options.noise:
    released = options.noise.release(whole, model.block)
  cells = mask if mask is None else options.protection.cells(
      mask, (height, width), units, model.block, scheme
  )
  key = None if options.form else fresh_keys(1)[0]
  sent = np.asarray(
      _form(scheme, released, model.block, cells) if options.form
      else _encrypt(scheme, key, released, model.block, cells)
  )
  if options.compact:
    sent, kind = compact.encode(scheme, sent, model.block), compact.KIND
  else:
    sent, kind = pictures.encode(sent), LABELS
  classes = len(model.names)
  if not _needs_logits(model, options):
    most = answers.labels_bytes(*whole.shape[:2])
    answer = cloud.segment(model, sent, LABELS, most, kind)
    return answers.read_labels(
        answer, *whole.shape[:2], classes, model.void
    )[:height, :width]
  shape = (*(side // model.patch for side in whole.shape[:2]), classes)
  logits = answers.read_logits(cloud.segment(
      model, sent, LOGITS, answers.logits_bytes(shape), kind
  ), shape)
  hidden = model.scheme if model.scheme.hidden else None
  scores = _scores(hidden, key, logits, whole.shape[:2])
  if options.refiner:
    scores = _refined(options.refiner.net, options.refiner.params, whole,
                      scores)
  return largest(np.asarray(scores)[:height, :width], size)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _encrypt(scheme, key, image, block, cells):
  if cells is not None:
    image = regions.merge(scheme, key, image, cells, block)
  return encrypt(scheme, key, image, block)


def _form(scheme, image, block, cells):
  if cells is not None:
    image = regions.deal(scheme, image, cells, block)
  return _representative(scheme, image, block)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _representative(scheme, image, block):
  return representative(scheme, image, block)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _scores(hidden, key, logits, size):
  """Logits of patches, [h, w, K], in place and of the image's size."""
  if hidden:
    logits = layout.put_back(logits[None], hidden, key[None])[0]
  return jax.image.resize(logits, (*size, logits.shape[-1]), "bilinear")


@functools.partial(jax.jit, static_argnums=0)
def _refined(net, params, image, logits):
  return net.apply({"params": params}, image[None], logits[None])[0]


def _palette(model: Model) -> np.ndarray:
  """uint8 [256, 3]; void is black."""
  palette = np.zeros((256, 3), np.uint8)
  palette[: len(model.colours)] = model.colours
  return palette


def _index(model: Model, options: Options) -> dict:
  """What labels.json says: the classes, and all that labels follow from."""
  protect = options.protection
  return {
      "ppseg_jax_labels": 1,
      "classes": [
          {"id": i, "name": name, "colour": list(colour)}
          for i, (name, colour) in enumerate(
              zip(model.names, model.colours, strict=True)
          )
      ],
      "void": model.void, "scheme": model.scheme.name, "block": model.block,
      "patch": model.patch, "sent": "form" if options.form else "ciphertext",
      "level": options.level, "resize": options.resize,
      "refiner": options.refiner.sha256 if options.refiner else "",
      **({"private": options.noise.says()} if options.noise else {}),
  } | ({"protect": protect.said} if protect else {})


def _keep_index(output: files.Output, out: Path, index: dict) -> None:
  """Writes labels.json; UserError where there is another one."""
  content = (json.dumps(index, indent=1) + "\n").encode()
  if not output.has(_INDEX) and output.write(_INDEX, content):
    return
  try:
    same = json.loads((out / _INDEX).read_bytes()) == index
  except (OSError, ValueError):
    same = False
  if not same:
    raise UserError(
        f"{out / _INDEX} says that its labels are of other classes, or were"
        " asked for in another way; give another OUT_DIR."
    )


def _check_size(path: Path, size: tuple[int, int]) -> np.ndarray:
  """The labels of a file that is there, uint8 [*size]."""
  labels, _ = label_files.read_labels(path)
  if labels.shape != size:
    raise UserError(
        f"its file {path} is of a picture of another size; remove or move it,"
        " or give another OUT_DIR."
    )
  return labels
