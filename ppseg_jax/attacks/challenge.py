"""A standing challenge: ciphertexts whose keys nobody has.

python -m ppseg_jax.attacks.challenge make --images=photos --out=challenge
    Encrypts every image of a folder under a fresh key, which is thrown away, in
    one of the levels of difficulty, in turns: what one level gives away is of
    no use in another. `challenge/public` is what to give away;
    `challenge/private` holds the plain images, for scoring, and stays at home.
python -m ppseg_jax.attacks.challenge score --challenge=challenge \
    --submission=answers
    Scores a folder `answers/<level>/<name>.png` of reconstructions.
"""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np

from ppseg_jax import command, viz
from ppseg_jax.attacks import ATTACKS, Budget, Knowledge, targets
from ppseg_jax.attacks.parts.scores import scores
from ppseg_jax.encryption import encrypt, fresh_keys
from ppseg_jax.errors import UserError
from ppseg_jax.pictures import list_pictures, read_rgb
from ppseg_jax.runs import workdir

LEVELS = {  # from what is known to fall to what is not
    "1_shuffle_shared_by_blocks": ("independent", 16),
    "2_blocks_moved_and_shared_shuffle": ("scramble_image", 16),
    "3_histogram_of_8x8_blocks": ("blockwise", 8),
    "4_histogram_of_16x16_blocks": ("blockwise", 16),
    "5_bag_of_histograms": ("blockwise_hidden", 16),
}

# Fixed before anyone tries: how much of the way from what anybody gets of the
# ciphertext without training to the plain image. From the ciphertext itself
# `rank` alone goes about half of that.
WIN = 0.5
KNOWN = ("mosaic", "rank")
_CONDITION = (
    "A level is won when the mean over its images of the edge correlation"
    " between reconstruction and plain image is at least {win} of the way to 1"
    " from the best of the ciphertext itself and of the attacks {known} of"
    " ppseg_jax.attacks that take the level's scheme. Every image of the level"
    " must be there, as an RGB PNG of the ciphertext's size."
)


def make(images: Path, out: Path) -> int:
  """Writes the challenge; returns how many images it has.

  Images are cut to whole blocks of 16. Raises UserError for a folder with fewer
  images than levels, an image smaller than 32x32, or an `out` that exists.
  """
  if not images.is_dir():
    raise UserError(f"--images='{images}' is no folder; give one with images.")
  if out.exists():
    raise UserError(f"--out='{out}' exists; give a path that does not.")
  paths, _ = list_pictures(images)
  if len(paths) < len(LEVELS):
    raise UserError(
        f"--images='{images}' holds {len(paths)} image files; at least"
        f" {len(LEVELS)} are needed, one for each level."
    )
  plain = [read_rgb(path) for path in paths]
  for path, image in zip(paths, plain, strict=True):
    if min(image.shape[:2]) < 32:
      raise UserError(f"{path}: at least 32x32 pixels are needed.")
  for k, image in enumerate(plain):
    height, width = (side // 16 * 16 for side in image.shape[:2])
    image = image[:height, :width]
    name = f"{k:03d}.png"  # a file's own name may say what it shows
    viz.save_png(out / "private" / name, image)
    level = list(LEVELS)[k % len(LEVELS)]
    scheme, block = LEVELS[level]
    cipher = encrypt(targets.get(scheme), fresh_keys(1)[0], image, block)
    viz.save_png(out / "public" / level / name, np.asarray(cipher))
  workdir.write_json(out / "public" / "challenge.json", {
      "condition": _CONDITION.format(
          win=WIN, known=" and ".join(KNOWN)
      ), "win": WIN,
      "images": len(plain),
      "levels": {level: {"scheme": scheme, "block": block,
                         "ops": [str(op) for op in targets.get(scheme).ops]}
                 for level, (scheme, block) in LEVELS.items()},
  })
  return len(plain)


def score(challenge: Path, submission: Path) -> list[dict]:
  """Scores each level of which the submission has a folder.

  Returns rows: `level`, `ssim`, `psnr`, `edge`, `progress` (0 is what anybody
  gets of the ciphertext without training, 1 the plain image), `won`. Raises
  UserError where a file is missing or of another size, or where the private
  part is.
  """
  described = challenge / "public" / "challenge.json"
  if not described.is_file() or not (challenge / "private").is_dir():
    raise UserError(
        f"--challenge='{challenge}' does not hold the folders public and"
        " private that 'make' wrote."
    )
  task = json.loads(described.read_text())
  levels = [level for level in task["levels"]
            if (submission / level).is_dir()]
  if not levels:
    raise UserError(
        f"--submission='{submission}' has no folder named as a level:"
        f" {', '.join(task['levels'])}."
    )
  rows = []
  for level in levels:
    figures, base = [], []
    scheme = targets.get(task["levels"][level]["scheme"])
    block = task["levels"][level]["block"]
    for path in sorted((challenge / "public" / level).glob("*.png")):
      plain, cipher, found = (
          read_rgb(folder / path.name)
          for folder in (challenge / "private",
                         challenge / "public" / level, submission / level)
      )
      if found.shape != plain.shape:
        raise UserError(
            f"{submission / level / path.name}: {found.shape[1]}x"
            f"{found.shape[0]} pixels, but the ciphertext has"
            f" {plain.shape[1]}x{plain.shape[0]}."
        )
      figures.append(scores(plain[None], found[None]))
      base.append([
          scores(plain[None], images)["edge"]
          for images in _known(Knowledge(cipher[None], scheme, block))
      ])
    mean = {k: float(np.mean([x[k] for x in figures])) for k in figures[0]}
    start = float(np.mean(base, 0).max())
    progress = (mean["edge"] - start) / max(1 - start, 1e-9)
    rows.append({"level": level, **mean, "progress": progress,
                 "won": progress >= task["win"]})
  return rows


def _known(knowledge: Knowledge) -> list[np.ndarray]:
  """The ciphertext, and what attacks that need no training make of it."""
  found = [knowledge.ciphertexts]
  for name in KNOWN:
    with contextlib.suppress(UserError):  # not for this scheme
      found.append(ATTACKS[name](knowledge, 0, Budget()).images)
  return found


def _main(argv: list[str]) -> int:
  parser = command.Parser(
      prog="python -m ppseg_jax.attacks.challenge", description=__doc__
  )
  commands = parser.add_subparsers(dest="command", required=True)
  maker = commands.add_parser("make", help="make a challenge of images")
  maker.add_argument("--images", type=command.path, required=True)
  maker.add_argument("--out", type=command.path, required=True)
  scorer = commands.add_parser("score", help="score a submission")
  scorer.add_argument("--challenge", type=command.path, required=True)
  scorer.add_argument("--submission", type=command.path, required=True)
  args = parser.parse_args(argv)
  if args.command == "make":
    count = make(args.images, args.out)
    print(f"done: {count} image(s) in {len(LEVELS)} levels; give away"
          f" {args.out / 'public'}, keep {args.out / 'private'}.")
    return 0
  for row in score(args.challenge, args.submission):
    print(f"{row['level']:<36} ssim {row['ssim']:.3f}  psnr"
          f" {row['psnr']:6.2f}  edge {row['edge']:.3f}  progress"
          f" {row['progress']:.2f}  {'WON' if row['won'] else 'not won'}")
  return 0


def main(argv: list[str] | None = None) -> int:
  """Runs a command line, sys.argv by default; returns the exit code."""
  words = sys.argv[1:] if argv is None else argv
  return command.run(lambda: _main(words))


if __name__ == "__main__":
  sys.exit(main())
