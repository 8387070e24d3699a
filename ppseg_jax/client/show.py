"""Pictures of what each scheme, or each level, leaves to see."""

import functools
import math
from collections.abc import Callable
from pathlib import Path, PurePath

import jax
import numpy as np
from PIL import Image

from ppseg_jax import pictures, viz
from ppseg_jax.client import files
from ppseg_jax.client.walk import find_pictures
from ppseg_jax.encryption import (
    SCHEMES,
    Scheme,
    at_level,
    encrypt,
    fresh_keys,
    get_scheme,
)
from ppseg_jax.encryption.schemes import squares_of
from ppseg_jax.errors import UserError

_SIDE = 320  # pixels; of larger pictures the middle is shown
_WIDE = 5  # columns
_GAP = 8
LEVELS = ("", "q16", "q4", "q4b5", "m2q4", "q1")

# (a ciphertext uint8 [H, W, 3], its scheme, its block) -> an attacker's guess.
Restore = Callable[[np.ndarray, Scheme, int], np.ndarray]


def panels(
    source: Path, out: Path, block: int = 16, count: int = 3,
    levels: tuple[str, ...] = (), restore: Restore | None = None,
) -> int:
  """Writes a PNG of plain | encrypted by every scheme, in rows of five.

  With levels: two rows a picture, plain | encrypted at each level, and below
  what an attack makes of it. Of each picture the middle is shown, pixel by
  pixel as it would be sent.

  Each is under a fresh key. Returns the number of pictures.

  Args:
    source: a picture, or a folder of which the first `count` are taken.
    out: the PNG; must not exist, nor lie inside a source folder.
    block: the block size in pixels.
    count: at most so many pictures.
    levels: of `blockwise`, as `q4`; '' for all of it.
    restore: the attack.

  Raises:
    UserError: for wrong arguments, or a file that is no picture.
  """
  pictures.check_block(block)
  if count < 1:
    raise UserError(f"--count={count} must be at least 1.")
  if out.suffix.lower() != ".png":
    raise UserError(f"OUT.png={out} must end in .png.")
  if out.exists():
    raise _exists(out)
  if source.is_dir():
    if out.resolve().is_relative_to(source.resolve()):
      raise UserError(
          f"OUT.png={out} lies among the pictures of {source}; give another"
          " path."
      )
    paths = [source / path for path in find_pictures(source)[0][:count]]
  elif source.exists():
    paths = [source]
  else:
    raise UserError(f"{source} does not exist; give a picture or a folder.")
  rows = []
  for path in paths:
    if levels:
      rows += map(viz.panel, _at_levels(path, block, levels, restore))
      continue
    columns = list(_columns(_middle(path, block), block).items())
    rows += [viz.panel(dict(columns[i : i + _WIDE]))
             for i in range(0, len(columns), _WIDE)]
  sheet = Image.new(
      "RGB",
      (max(row.width for row in rows),
       sum(row.height + _GAP for row in rows) - _GAP),
      "white",
  )
  top = 0
  for row in rows:
    sheet.paste(row, (0, top))
    top += row.height + _GAP
  with files.Output(out.parent, private=True) as output:
    if not output.write(PurePath(out.name), pictures.encode(np.asarray(sheet))):
      raise _exists(out)
  return len(paths)


def _exists(out: Path) -> UserError:
  return UserError(
      f"OUT.png={out} exists, and no file is overwritten; give another path."
  )


def _middle(path: Path, block: int) -> np.ndarray:
  """The middle of the picture, uint8 [H, W, 3], at most `_SIDE` large.

  Cut and not shrunk: blocks are as fine on what they show as they will be when
  the picture is sent.
  """
  image = pictures.read_rgb(path)
  top, left = (max(size - _SIDE, 0) // 2 for size in image.shape[:2])
  return pictures.pad(image[top : top + _SIDE, left : left + _SIDE], block)


def _columns(image: np.ndarray, block: int) -> dict[str, np.ndarray]:
  columns = {"plain": image}
  for name in SCHEMES:
    if name == "plain":
      continue
    try:
      columns[name] = np.asarray(_encrypt(name, fresh_keys(1)[0], image, block))
    except UserError:  # a share of so few blocks cannot move
      columns[f"{name}: too few blocks"] = np.full_like(image, 255)
  return columns


def _at_levels(
    path: Path, block: int, levels: tuple[str, ...], restore: Restore
) -> list[dict[str, np.ndarray]]:
  """Two rows: what is sent at each level, and what is made of it."""
  schemes = {
      level or "all": at_level("blockwise", level) if level
      else get_scheme("blockwise") for level in levels
  }
  most = math.lcm(*map(squares_of, schemes.values()))
  if block * most > _SIDE:
    raise UserError(
        f"--levels: squares of {most}x{most} blocks of {block} are larger"
        f" than the {_SIDE} pixels that are shown; leave such a level out."
    )
  image = _middle(path, block * most)
  sent, restored = {"plain": image}, {"plain, again": image}
  for level, scheme in schemes.items():
    seen = np.asarray(_encrypt(scheme, fresh_keys(1)[0], image, block))
    sent[f"{level}: sent"] = seen
    restored[f"{level}: restored"] = restore(seen, scheme, block)
  return [sent, restored]


@functools.partial(jax.jit, static_argnums=(0, 3))
def _encrypt(name, key, image, block):
  return encrypt(name, key, image, block)
