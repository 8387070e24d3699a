"""Encrypting pictures and their labels, for others to train on.

    OUT_DIR/encrypted.json     what follows is, see `ppseg_jax.data.encrypted`
    OUT_DIR/images, labels     a file each, of one name

Labels stay readable: as class numbers where they are, void where a picture was
padded. Where the scheme moves blocks, the labels of a block move with it, under
the picture's key, and are sorted: where a border runs inside a block would show
which blocks lay side by side. A picture's labels are on the disk before its
ciphertext, so that no ciphertext is without.
"""

import functools
from pathlib import Path

import jax
import numpy as np

from ppseg_jax import pictures
from ppseg_jax.client import files, folders, walk
from ppseg_jax.client.parts import WHOLE, Part
from ppseg_jax.client.protect import Protection
from ppseg_jax.client.walk import Summary
from ppseg_jax.data import DRAWN, own
from ppseg_jax.data.encrypted import (
    FILE,
    Declaration,
    moves_blocks,
    read_declaration,
)
from ppseg_jax.data.folders import by_names
from ppseg_jax.data.label_files import Palettes, read_labels
from ppseg_jax.data.labels import VOID, LabelSpace
from ppseg_jax.data.layouts import LAYOUTS
from ppseg_jax.data.threads import in_threads
from ppseg_jax.encryption import Scheme, encrypt
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.encryption.layout import moves_of
from ppseg_jax.errors import UserError

_NAMED = 3  # bad files in one sentence


def contribute_folder(
    source: Path,
    labels: Path,
    out: Path,
    scheme: Scheme,
    block: int = 16,
    keys: Path | None = None,
    padding: bool = True,
    part: Part = WHOLE,
    classes: str = "",
    protection: Protection | None = None,
) -> Summary:
  """`folders.encrypt_folder` to `out/images`, with the labels of the pictures.

  Args:
    source: the folder of the pictures.
    labels: that of the label files, of the pictures' paths, suffixes apart.
    out: the folder of the contribution; may exist.
    scheme: as of `encrypt_folder`; likewise block, keys, padding and part.
    block: see above.
    keys: see above.
    padding: see above.
    part: see above.
    classes: whose label space the labels have, see `label_space`.
    protection: as of `encrypt_folder`; labels are not changed by it.

  Raises:
    UserError: where nothing can be done at all. Before anything is written, for
      labels that are missing, of another size or of unknown ids, for pictures
      of several sizes, and where `out` holds a contribution of another kind.
  """
  folders.check_folders(source, out)
  _check_labels(labels, out)
  pictures.check_block(block)
  if keys is not None:
    for name, folder in (("OUT_DIR", out), ("LABEL_DIR", labels)):
      folders.check_outside(keys, name, folder)
  paths, _, _ = walk.find_part(source, part)
  space = label_space(classes, labels)
  found = {image.relative_to(source): path
           for image, path in by_names(source, labels).pairs}
  beside = _Beside(source, found, out / "labels", space, scheme, block)
  size = beside.check(paths, padding)
  with files.Output(out) as output:
    for name in ("images", "labels"):
      output.has(Path(name))  # raises for a link
    if size:
      _declare(output, out, Declaration(
          scheme.name, block, *size,
          "amounts" if moves_blocks(scheme) else "places", space,
      ))
  with files.Output(out / "labels") as output:
    output.remove_leftovers(part)
    beside.output = output
    return folders.encrypt_folder(
        source, out / "images", scheme, block, keys, padding, part, beside,
        protection,
    )


def leaks(scheme: Scheme) -> str:
  """What the labels show, in a sentence."""
  if moves_blocks(scheme):
    return ("Labels are not encrypted: they show how much of each class a block"
            " holds, and not where the block was.")
  return "Labels are not encrypted: they show where each class is."


def label_space(classes: str, labels: Path) -> LabelSpace:
  """The classes of label files.

  Args:
    classes: a public data set's name, or the folder of a classes.json; empty
      for the one in the labels' folder or in the two above it.
    labels: that folder.

  Raises:
    UserError: where there is none.
  """
  named = {name: space for name, (space, _) in (DRAWN | LAYOUTS).items()}
  if classes in named:
    return named[classes]
  if classes and not Path(classes).expanduser().is_dir():
    raise UserError(
        f"--classes={classes} is no folder, nor one of {', '.join(named)}."
    )
  if classes:
    return own.read_space(Path(classes).expanduser())
  for folder in (labels, *labels.absolute().parents[:2]):
    if (folder / "classes.json").exists():
      return own.read_space(folder)
  raise UserError(
      f"--labels={labels}: neither this folder nor the two above it hold a"
      " classes.json, which declares the classes; write one (docs/data.md), or"
      f" give --classes=FOLDER or --classes=NAME of {', '.join(named)}."
  )


def _check_labels(labels: Path, out: Path) -> None:
  if not labels.is_dir():
    raise UserError(f"--labels={labels} is no folder; give one with labels.")
  inside, outside = labels.resolve(), out.resolve()
  if inside.is_relative_to(outside) or outside.is_relative_to(inside):
    raise UserError(
        f"OUT_DIR={out} and --labels={labels} lie in one another, so that what"
        " may be sent and what may not would mix; give an OUT_DIR elsewhere."
    )


def _declare(output: files.Output, out: Path, mine: Declaration) -> None:
  """Writes the declaration, or compares it with the one that is there."""
  name = Path(FILE)
  if output.has(name) or not output.write(name, mine.to_text().encode()):
    there = read_declaration(out).facts()
    for what, value in mine.facts().items():
      if there[what] != value:
        raise UserError(
            f"OUT_DIR={out} holds a contribution whose {what} is {there[what]},"
            f" not {value}; give another OUT_DIR."
        )


class _Beside:
  """The labels that go beside the ciphertexts.

  Attributes:
    output: their folder, from when they are written.
  """

  output: files.Output

  def __init__(
      self, source: Path, found: dict[Path, Path], out: Path,
      space: LabelSpace, scheme: Scheme, block: int,
  ):
    self._source, self._found, self._out = source, found, out
    self._space, self._scheme, self._block = space, scheme, block
    self._moved = moves_blocks(scheme)
    self._palettes = Palettes()

  def check(self, paths: list[Path], padding: bool) -> tuple[int, int] | None:
    """Reads all labels; the one (width, height) of all ciphertexts.

    None where there is no picture. Raises UserError, naming the first few,
    where labels are not taken, and for ciphertexts of several sizes.
    """
    failures, first = [], {}
    for path, (size, failure) in zip(
        paths, in_threads(self._check, paths), strict=True
    ):
      if failure:
        failures.append(failure)
      elif size and (padding or not any(x % self._block for x in size)):
        padded = tuple(x + -x % self._block for x in size)
        first.setdefault(padded, path)
    if failures:
      more = len(failures) - _NAMED
      raise UserError(" ".join(failures[:_NAMED]) + (
          f" ({more} more like these)" if more > 0 else ""
      ))
    if len(first) > 1:
      (one, a), (other, b), *_ = first.items()
      raise UserError(
          f"{a} takes {one[0]}x{one[1]} pixels in whole blocks and {b}"
          f" {other[0]}x{other[1]}, but a contribution has one size; bring the"
          " pictures to one before."
      )
    return next(iter(first), None)

  def _check(self, path: Path) -> tuple[tuple[int, int] | None, str]:
    """(size of the picture, what is wrong with its labels)."""
    try:
      labels = self._read(path)
      try:
        size = pictures.read_size(self._source / path)
      except UserError:
        return None, ""  # refused by name when its turn comes
      self._check_size(path, labels, size)
      if self._moved and any(x % self._block for x in size):
        raise UserError(
            f"{self._source / path}: its size {size[0]}x{size[1]} is no"
            f" multiple of the block size {self._block}, and where blocks are"
            " moved the labels of its padding would tell which lay at the edge;"
            " crop it."
        )
    except UserError as error:
      return None, str(error)
    return size, ""

  def _check_size(
      self, path: Path, labels: np.ndarray, size: tuple[int, int]
  ) -> None:
    if labels.shape[::-1] != size:
      raise UserError(
          f"{self._found[path]}: labels of {labels.shape[1]}x{labels.shape[0]}"
          f" pixels do not fit {self._source / path} of {size[0]}x{size[1]};"
          " mend the pair."
      )

  def _read(self, path: Path) -> np.ndarray:
    """The labels of a picture as they are: train ids, uint8 [H, W]."""
    labels, palette = read_labels(self._found[path], self._space)
    self._palettes.check(self._found[path], palette)
    return self._space.to_train_ids(labels, str(self._found[path]))

  def _padded(self, path: Path, size: tuple[int, int]) -> np.ndarray:
    labels = self._read(path)
    self._check_size(path, labels, size)
    more = [(0, -x % self._block) for x in labels.shape]
    return np.pad(labels, more, constant_values=VOID)

  def write(self, path: Path, key: jax.Array, size: tuple[int, int]) -> None:
    """Writes the labels of a picture that is about to be written itself.

    Args:
      path: of the picture in its folder.
      key: that it was encrypted under.
      size: its width and height.

    Raises:
      UserError: where other labels are there.
    """
    labels, name = self._padded(path, size), path.with_suffix(".png")
    if self._moved:
      labels = _moved(self._scheme, key, labels, self._block)
    fresh = not self.output.has(name) and self.output.write(
        name, pictures.encode(labels[..., None])
    )
    if not fresh and self._moved:
      raise UserError(
          f"{self._out / name} is there without it, of a command that was"
          " stopped in between; its labels lie as a key that is gone had it, so"
          " remove that file, and the same command goes on."
      )
    if not fresh:
      self._compare(name, labels)

  def check_done(self, path: Path, size: tuple[int, int]) -> None:
    """Raises UserError unless the labels of a picture done before are there.

    Those that no key has moved are written where they are missing.
    """
    labels, name = self._padded(path, size), path.with_suffix(".png")
    if self.output.has(name):
      self._compare(name, labels)
    elif self._moved:
      raise UserError(
          f"its labels are not in {self._out}, and nobody knows any more where"
          " its blocks went; remove its file in OUT_DIR/images, and the same"
          " command encrypts it anew."
      )
    else:
      self.output.write(name, pictures.encode(labels[..., None]))

  def _compare(self, name: Path, labels: np.ndarray) -> None:
    """Where a key moved them only the amounts of the classes can tell."""
    there, _ = read_labels(self._out / name)
    if self._moved:
      same = np.array_equal(np.bincount(there.ravel(), minlength=256),
                            np.bincount(labels.ravel(), minlength=256))
    else:
      same = np.array_equal(there, labels)
    if not same:
      raise UserError(
          f"{self._out / name} holds other labels; remove it and its picture in"
          " OUT_DIR, or give another OUT_DIR."
      )


def _moved(
    scheme: Scheme, key: jax.Array, labels: np.ndarray, block: int
) -> np.ndarray:
  """Labels, uint8 [H, W], with their blocks moved, and sorted in each."""
  moved = np.asarray(_jit_move(scheme, key, labels[..., None], block))
  blocks = split(moved[None], block)  # [1, N, M, M, 1]
  ordered = np.sort(blocks.reshape(*blocks.shape[:2], -1), axis=-1)
  grid = tuple(x // block for x in labels.shape)
  return join(ordered.reshape(blocks.shape), grid)[0, ..., 0]


@functools.partial(jax.jit, static_argnums=(0, 3))
def _jit_move(scheme, key, labels, block):
  return encrypt(moves_of(scheme), key, labels, block)
