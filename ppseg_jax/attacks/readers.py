"""What libraries that read text, faces and people still get.

python -m ppseg_jax.attacks.readers texts --data=signs --sizes=16,32,64,128
    Characters that OCR reads right, of lines whose place it is told.
python -m ppseg_jax.attacks.readers faces --data=faces_by_person
    Faces that a detector finds; and whose they are, by the nearest in a
    gallery, where the reader is told where the face is.
python -m ppseg_jax.attacks.readers persons --data=streets
    Persons that a detector finds.

Each subject is resized to the heights of --sizes, cut out with what is around
it, encrypted under a key of its own, and read: the ciphertext as it is, and
what each attack makes of it. With --cells other than none the blocks of what is
to be read (--protect=boxes), or of what the client finds (--protect=faces), are
merged first. What must lie in --data is in ppseg_jax/attacks/parts/subjects.py.
Needs the extra `recognition`.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from ppseg_jax import command
from ppseg_jax.attacks import ATTACKS, Budget, Knowledge, targets
from ppseg_jax.attacks.parts import eyes, right, subjects
from ppseg_jax.attacks.parts.subjects import Subject
from ppseg_jax.client import detect, protect
from ppseg_jax.encryption import (
    Scheme,
    encrypt,
    image_keys,
    key_from_seed,
    regions,
)
from ppseg_jax.encryption.keys import EVAL
from ppseg_jax.encryption.schemes import squares_of
from ppseg_jax.errors import UserError
from ppseg_jax.runs import workdir

KINDS = ("texts", "faces", "persons")
NONE = "none"  # as a cell: nothing is protected
_ATTACKS = "correlation,mosaic,rank"
_SCHEMES = ("plain,independent,blockwise,blockwise_q4,blockwise_q1,"
            "blockwise_m2q4,blockwise_value")
_ROUNDS = 8  # of attacks, as in configs/attacks.py

Judge = Callable[[Sequence[Subject], Sequence[np.ndarray]], dict[str, float]]


def load(kind: str, folder: Path) -> tuple[list[Subject], Judge, dict]:
  """What is to be read, who says how much of it was, and facts for the record.

  Raises UserError where the folder or a library is not as it must be.
  """
  eyes.check_installed(kind)
  if kind == "texts":
    return subjects.of_texts(folder), _read_texts, {}
  if kind == "persons":
    return subjects.of_persons(folder), functools.partial(
        _found, eyes.persons
    ), {}
  known, probes, without = subjects.of_faces(folder)
  gallery = np.stack([eyes.describe(each.image, each.box) for each in known])
  names = [each.truth for each in known]

  def read(plain: Sequence[Subject], images: Sequence[np.ndarray]) -> dict:
    seen = np.stack([
        eyes.describe(image, each.box)
        for each, image in zip(plain, images, strict=True)
    ])
    return _found(eyes.faces, plain, images) | right.of_persons(
        [each.truth for each in plain], seen, names, gallery
    )

  return probes, read, {"persons": len(known), "without_a_face": without}


def _read_texts(
    plain: Sequence[Subject], images: Sequence[np.ndarray]
) -> dict[str, float]:
  return right.of_texts(
      [each.truth for each in plain],
      [eyes.text(image, each.box)
       for each, image in zip(plain, images, strict=True)],
  )


def _found(
    find: Callable, plain: Sequence[Subject], images: Sequence[np.ndarray]
) -> dict[str, float]:
  return right.of_boxes(
      [each.box for each in plain],
      [find(image, each.box[3] - each.box[1])
       for each, image in zip(plain, images, strict=True)],
  )


def mask_of(subject: Subject, what: str) -> np.ndarray:
  """What the client protects, bool [H, W]: `boxes` or `faces` that it finds.

  The box of a subject is grown as boxes of faces are.
  """
  boxes = (detect.boxes(subject.image) if what == protect.FACES
           else [detect.grown(subject.box)])
  return protect.of_boxes(boxes, subject.image.shape[:2])


@functools.partial(jax.jit, static_argnums=(0, 4))
def _merge_and_encrypt(scheme: Scheme, key, image, cells, block: int):
  return regions.encrypt(scheme, key, image, cells, block)


_encrypt = jax.jit(encrypt, static_argnums=(0, 3))


def ciphertexts(
    scheme: Scheme, block: int, plain: Sequence[Subject], seed: int,
    cell: int | None, what: str,
) -> list[np.ndarray]:
  """The subjects' pictures encrypted, uint8 [H, W, 3], each by its own key."""
  index = np.arange(len(plain))
  keys = image_keys(
      "image", key_from_seed(seed), index, index * 0, EVAL, 1
  )
  found = []
  for key, each in zip(keys, plain, strict=True):
    if cell is None:
      found.append(_encrypt(scheme, key, each.image, block))
      continue
    cells = regions.cells_of(mask_of(each, what), block, cell, scheme)
    found.append(_merge_and_encrypt(scheme, key, each.image, cells, block))
  return [np.asarray(image) for image in found]


def attacked(
    name: str, scheme: Scheme, block: int, images: Sequence[np.ndarray],
    cell: int | None,
) -> list[np.ndarray]:
  """What an attack makes of each; UserError where it does not apply.

  Cells of protected regions are as blocks of their size, and are attacked as
  such where the picture consists of whole ones.
  """
  merge = squares_of(scheme)  # which the attack takes together itself
  side = block * max(cell or 1, merge) // merge
  if any(x % side for image in images for x in image.shape[:2]):
    side = block
  return [
      ATTACKS[name](
          Knowledge(image[None], scheme, side), 0, Budget(rounds=_ROUNDS)
      ).images[0]
      for image in images
  ]


def run(
    args: argparse.Namespace, say: Callable[[str], None] = print
) -> list[dict]:
  """Reads everything; writes args.out after every row.

  Returns:
    Rows: `scheme`, `block`, `size` (pixels), `cell`, `attack` (`ciphertext`:
    as it is), `subjects`, `seconds` of the attack a picture, and shares of what
    was read right, by what `parts.right` calls them.
  """
  schemes = [targets.get(name) for name in args.schemes]
  everything, judge, facts = load(args.kind, args.data)
  everything = everything[: args.most or None]
  record = {
      "kind": args.kind, "protect": args.protect, "seed": args.seed, **facts,
      "versions": workdir.versions() | eyes.versions(args.kind), "rows": [],
  }
  for size in args.sizes:
    plain = [subjects.window(each, size) for each in everything]
    for scheme in schemes:
      for block in args.blocks if scheme.ops else args.blocks[:1]:
        for cell in args.cells:
          for row in _rows(args, judge, scheme, block, cell, plain, say):
            record["rows"].append({
                "scheme": scheme.name, "block": block, "size": size,
                "cell": cell, "subjects": len(plain), **row,
            })
            say(line(record["rows"][-1]))
            workdir.write_json(args.out, record)
  return record["rows"]


def _rows(args, judge: Judge, scheme, block: int, cell: str, plain, say):
  number = None if cell == NONE else protect.CELLS[cell]
  hidden = ciphertexts(scheme, block, plain, args.seed, number, args.protect)
  yield {"attack": "ciphertext", "seconds": 0.0, **judge(plain, hidden)}
  for name in args.attacks if scheme.ops else ():
    start = time.perf_counter()
    try:
      found = attacked(name, scheme, block, hidden, number)
    except UserError as error:
      say(f"{scheme.name:<18}{block:>4}       - {error}")
      continue
    seconds = (time.perf_counter() - start) / len(plain)
    yield {"attack": name, "seconds": seconds, **judge(plain, found)}


def _check(args: argparse.Namespace) -> None:
  for name in ("sizes", "blocks", "schemes", "cells"):
    if not getattr(args, name):
      raise UserError(f"--{name} must name at least one.")
  for name in args.attacks:
    if name not in ATTACKS:
      raise UserError(f"--attacks: '{name}' is none of {', '.join(ATTACKS)}.")
    if ATTACKS[name].needs:
      raise UserError(
          f"--attacks: '{name}' has to be told more than a ciphertext; give"
          " attacks that need no more."
      )
  if args.most < 0:
    raise UserError(f"--most={args.most} must be a number of subjects, or 0.")
  if args.out.exists():
    raise UserError(f"--out={args.out} exists; give a new file.")
  if not args.out.parent.is_dir():
    raise UserError(f"--out={args.out}: {args.out.parent} is no folder.")
  for size in args.sizes:
    if not 8 <= size <= 1024:
      raise UserError(f"--sizes: {size} must be 8 to 1024 pixels.")
  for cell in args.cells:
    if cell not in (NONE, *protect.CELLS):
      raise UserError(
          f"--cells: '{cell}' is none of {', '.join((NONE, *protect.CELLS))}."
      )
  for scheme in map(targets.get, args.schemes):
    for block in args.blocks:
      if block < 1 or subjects.UNIT % (block * squares_of(scheme)):
        raise UserError(
            f"--blocks: windows of multiples of {subjects.UNIT} pixels are not"
            f" of whole blocks of {block} of scheme '{scheme.name}'; give 8 or"
            " 16."
        )
    for cell in args.cells:
      if cell != NONE:
        regions.unit_of(scheme)
        regions.check_cell(protect.CELLS[cell], scheme)


_NOT_FIGURES = ("scheme", "block", "size", "cell", "subjects", "attack",
                "seconds")


def figures_of(row: dict) -> dict[str, float]:
  return {name: x for name, x in row.items() if name not in _NOT_FIGURES}


def line(row: dict) -> str:
  """A row as text."""
  figures = "  ".join(f"{name} {x:.2f}" for name, x in figures_of(row).items())
  return (f"{row['scheme']:<18}{row['block']:>4}{row['size']:>5}"
          f"{row['cell']:>7}  {row['attack']:<12}{figures}")


def table(rows: Sequence[dict], figure: str) -> str:
  """A Markdown table of a figure, a row a scheme, block and cell.

  A column a size: the ciphertext as it is, and the best of the attacks.
  """
  sizes = sorted({row["size"] for row in rows})
  found = {}
  for row in rows:
    as_it_is = row["attack"] == "ciphertext"
    cell = found.setdefault(
        (row["scheme"], row["block"], row["cell"]), {}
    ).setdefault((row["size"], as_it_is), [])
    cell.append(row[figure])
  lines = [f"| {figure} | block | cell | "
           + " | ".join(map(str, sizes)) + " |",
           "|---" * (3 + len(sizes)) + "|"]
  for (scheme, block, cell), shown in found.items():
    parts = []
    for size in sizes:
      both = (shown.get((size, as_it_is)) for as_it_is in (True, False))
      parts.append(", ".join(f"{max(x):.2f}" if x else "-" for x in both))
    lines.append(f"| `{scheme}` | {block} | {cell} | {' | '.join(parts)} |")
  return "\n".join(lines)


def _words(text: str) -> list[str]:
  return [word for word in text.split(",") if word]


def _numbers(text: str) -> list[int]:
  return [int(word) for word in _words(text)]


def parse(argv: list[str]) -> argparse.Namespace:
  """The words of a command line; UserError for what is none."""
  parser = command.Parser(
      prog="python -m ppseg_jax.attacks.readers", description=__doc__
  )
  parser.add_argument("kind", choices=KINDS)
  parser.add_argument("--data", type=command.path, required=True)
  parser.add_argument("--out", type=command.path,
                      help="a new file (default: readers_KIND.json)")
  parser.add_argument("--sizes", type=_numbers, default=[32, 64, 128, 256])
  parser.add_argument("--blocks", type=_numbers, default=[8, 16])
  parser.add_argument("--schemes", type=_words, default=_words(_SCHEMES))
  parser.add_argument("--attacks", type=_words, default=_words(_ATTACKS))
  parser.add_argument("--protect", choices=("boxes", protect.FACES),
                      default="boxes")
  parser.add_argument("--cells", type=_words, default=[NONE])
  parser.add_argument("--most", type=int, default=0, help="0: all subjects")
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args(argv)
  args.out = args.out or Path(f"readers_{args.kind}.json")
  _check(args)
  return args


def _main(argv: list[str]) -> int:
  args = parse(argv)
  rows = run(args, lambda text: print(text, flush=True))
  for figure in figures_of(rows[0]):
    print(f"\n{table(rows, figure)}")
  print(f"\ndone: {args.out}")
  return 0


def main(argv: list[str] | None = None) -> int:
  """Runs a command line, sys.argv by default; returns the exit code."""
  given = sys.argv[1:] if argv is None else argv
  return command.run(lambda: _main(given))


if __name__ == "__main__":
  sys.exit(main())
