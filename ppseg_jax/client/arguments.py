"""What the client's command line takes, and its help."""

import argparse
import textwrap
from fractions import Fraction
from typing import NoReturn

from ppseg_jax import command
from ppseg_jax.client import noise, protect, show
from ppseg_jax.encryption import SCHEMES, levels, private
from ppseg_jax.errors import UserError

WARNING = (
    "Perceptual encryption is not semantically secure (not IND-CPA): whoever"
    " has the encrypted picture, also without its key, learns what is said of"
    " the scheme here, and the size of the picture."
)
_EXIT = (
    "Exit code: 0 if every picture is done (files that are no pictures are"
    " skipped and named), 1 if a picture was refused (named, with the reason),"
    " 2 if nothing could be done (the reason in one line on stderr)."
)
_KINDS = (
    "8-bit grey and RGB pictures (PNG, JPEG, BMP, TIFF, WebP) are taken, and"
    " their values kept exactly; others (transparency, palettes, 16 bits,"
    " animations, CMYK) are refused, never converted silently. The EXIF"
    " orientation is applied; no metadata goes into the encrypted picture."
    " Subfolders are walked; hidden files are not."
)
_SIZES = (
    "Pictures done before are not decoded again: with a key file, a picture's"
    " size in bytes and times tell whether it has changed. Without one only"
    " width and height do: give another OUT_DIR for pictures that have changed."
)
_PARTS = (
    "--part=2/8 takes the second of eight parts, so that eight processes, on as"
    " many machines, share the pictures, each with a key file of its own. A"
    " picture's part follows from its path: pictures that come later move none."
)
_LABELS = (
    "--labels writes OUT_DIR/images, OUT_DIR/labels and OUT_DIR/encrypted.json,"
    " to train on (data.name=encrypted, docs/client.md): pictures of one size,"
    " each with a label file of the same path in LABEL_DIR. All labels are"
    " checked before anything is written. Labels are not encrypted: they show"
    " where each class is; where the scheme moves blocks, what each block holds"
    " and not where it was."
)
_RESUME = (
    "The same command again goes on where it was stopped; no half-written file"
    " is left behind, no file is ever overwritten, and no link is followed in"
    " OUT_DIR."
)
_SERVER = (
    "The server is asked what it reads, and refused where its scheme may show"
    " more than --at-most allows. Each picture is encrypted under a fresh key,"
    " which stays here and is forgotten; its name and metadata stay here too."
    " The server sees what the scheme leaves, and what it answers. OUT_DIR gets"
    " labels/ (class ids, with colours), overlays/ and labels.json, which names"
    " the classes; all readable by you alone, since overlays show the pictures."
    " A picture that is done is not sent again; one that has changed since, its"
    " size apart, is not noticed."
)
_PROTECT = (
    "--protect shows less of what it names: the blocks of each region (or of"
    " each cell of it, --protect-cell) are shuffled together, so that it shows"
    " one histogram a channel. Where the regions lie can be seen. It names them"
    " by a JSON file of boxes, by a folder of masks (docs/client.md), or, with"
    " --protect=faces, as faces and licence plates that OpenCV finds here,"
    " which misses some: the pictures without any are named."
)
_PADDED = (
    "A picture whose size is no multiple of the block size is padded: its last"
    " blocks then also hold pixels of those before them, and the two together"
    " can show what the rows and columns of the part block hold, finer than the"
    " scheme says. --no-pad refuses such pictures; crop them to send no more"
    " than the scheme says."
)
_NOISE = (
    "--epsilon or --rho, with --pixels, adds noise to what is encrypted, with"
    " differential privacy (docs/levels.md): it hides what covers no more than"
    " so many pixels of the picture as it is sent. Each picture is released"
    " once; whoever sends it again, or another that shows the same, spends the"
    " budget again. Nobody gets such a picture back."
)


class _Parser(command.Parser):

  def error(self, message: str) -> NoReturn:
    super().error(f"{message}; see {self.prog} --help.")


def _wrapped(*paragraphs: str) -> str:
  return "\n\n".join(textwrap.fill(text, 78) for text in paragraphs)


def _leaks() -> str:
  return "\n".join(
      textwrap.fill(f"{scheme.name}: {scheme.leaks}", 78,
                    initial_indent="  ", subsequent_indent="      ")
      for scheme in SCHEMES.values()
  )


def parser() -> argparse.ArgumentParser:
  """Of all commands."""
  parser = _Parser(
      prog="python -m ppseg_jax.client",
      description="Encrypt pictures here, before they are sent anywhere.",
      epilog="What an encrypted picture still shows, by scheme:\n" + _leaks()
      + "\n\n" + _wrapped(WARNING, _EXIT),
  )
  commands = parser.add_subparsers(dest="command", required=True)

  def add(name: str, text: str, *epilog: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=text, description=text, epilog="\n\n".join(epilog)
    )

  _add_encrypt(add(
      "encrypt", "Encrypt each picture of a folder under a fresh key.",
      "What an encrypted picture still shows, by scheme:\n" + _leaks(),
      _wrapped(WARNING, _PADDED, _PROTECT, _NOISE, _KINDS, _LABELS,
               _RESUME + " " + _SIZES, _PARTS, _EXIT),
  ))
  _add_decrypt(add(
      "decrypt", "Give back the pictures of a folder that encrypt wrote.",
      _wrapped("The pictures come back as PNGs of the very same values, each"
               " checked by its SHA-256 from the key file, and readable by you"
               " alone. An encrypted picture that was recompressed without loss"
               " is known by its name.", _RESUME, _EXIT),
  ))
  _add_show(add(
      "show", "Make a picture of plain | encrypted by every scheme, of the"
      " middle of each picture, pixel by pixel as it would be sent.",
      "What an encrypted picture still shows, by scheme:\n" + _leaks(),
      _wrapped(WARNING),
  ))
  _add_segment(add(
      "segment", "Have a server segment the pictures of a folder, encrypted.",
      "What an encrypted picture still shows, by scheme:\n" + _leaks(),
      _wrapped(WARNING, _PADDED, _PROTECT, _NOISE, _KINDS, _SERVER, _RESUME,
               _EXIT),
  ))
  return parser


def _add_encrypt(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("IN_DIR", type=command.path, help="the pictures")
  parser.add_argument(
      "OUT_DIR", type=command.path,
      help="for the encrypted ones: lossless PNGs of the same size and names",
  )
  parser.add_argument(
      "--scheme", default="blockwise",
      help=f"{', '.join(SCHEMES)}, or FILE.py:NAME for a Scheme object of your"
      " own (default: %(default)s)",
  )
  parser.add_argument(
      "--level", default="",
      help="show less than the scheme does, as q4: of each 4 groups of sorted"
      " values the mean; cannot be decrypted (docs/levels.md)",
  )
  _add_noise(parser)
  parser.add_argument(
      "--crop", action="store_true",
      help="with noise: cut the last rows and columns off where a size is no"
      " multiple of the block size, since padding is refused there",
  )
  parser.add_argument(
      "--block", type=int, default=16,
      help="block size in pixels, that of the model (default: %(default)s)",
  )
  parser.add_argument(
      "--keys", type=command.path, metavar="KEYFILE",
      help="a new file for the keys, readable by you alone, not inside IN_DIR"
      " or OUT_DIR; without it the keys are forgotten and nobody can decrypt",
  )
  parser.add_argument(
      "--no-pad", action="store_true",
      help="refuse pictures whose size is no multiple of the block size; else"
      " they are padded right and bottom, which shows more (see below), and"
      " decrypt cuts that off",
  )
  _add_protect(parser)
  parser.add_argument(
      "--part", default="1/1", metavar="I/N",
      help="the I-th of N parts only, 1 to N, as an array job",
  )
  parser.add_argument(
      "--labels", type=command.path, metavar="LABEL_DIR",
      help="contribute to a training: the pictures, with these labels",
  )
  parser.add_argument(
      "--classes", default="", metavar="FOLDER",
      help="with --labels: the folder of their classes.json, or the name of a"
      " public data set, as camvid (default: LABEL_DIR or the two folders above"
      " it)",
  )


def _add_decrypt(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("IN_DIR", type=command.path,
                      help="the encrypted pictures")
  parser.add_argument("OUT_DIR", type=command.path, help="for the pictures")
  parser.add_argument(
      "--keys", type=command.path, metavar="KEYFILE", action="append",
      required=True,
      help="the file that encrypt wrote; may be given several times, for parts",
  )
  parser.add_argument("--scheme", metavar="FILE.py:NAME",
                      help="the Scheme object, if it was one of your own")


def _add_show(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("IN", type=command.path, metavar="IN_DIR_OR_IMAGE",
                      help="a picture, or a folder whose first ones are taken")
  parser.add_argument("OUT", type=command.path, metavar="OUT.png",
                      help="the picture to write")
  parser.add_argument("--block", type=int, default=16,
                      help="block size in pixels (default: %(default)s)")
  parser.add_argument("--count", type=int, default=3,
                      help="pictures of a folder (default: %(default)s)")
  parser.add_argument(
      "--levels", nargs="?", const=",".join(x or "all" for x in show.LEVELS),
      metavar="Q4,Q1",
      help="instead of schemes, each level of blockwise: what would be sent,"
      " and below what the best attack without training makes of it; 'all' is"
      " the scheme itself (default: %(const)s)",
  )


def _add_protect(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
      "--protect", metavar="BOXES.json|MASKS|faces",
      help="regions to show less of: a file of boxes, a folder of masks, or"
      " faces and licence plates as they are found here (see below)",
  )
  parser.add_argument(
      "--protect-cell", choices=tuple(protect.CELLS),
      help="blocks that are shuffled together: squares of 2x2, 4x4 or 8x8, or"
      " the whole region (default: region)",
  )


def _add_noise(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add("--epsilon", type=Fraction, metavar="E",
      help="add noise to each picture: what it may tell of --pixels pixels")
  add("--rho", type=Fraction, metavar="R",
      help="the same as zero-concentrated differential privacy")
  add("--pixels", type=int, metavar="M",
      help="in how many pixels pictures may differ that are to look alike")
  add("--groups", type=int, metavar="G",
      help="with noise: groups of the sorted values of a channel of a block,"
      " whose means are left (default: 1)")
  add("--bits", type=int, metavar="B",
      help="with noise: in place of means a histogram of the values' B upper"
      " bits, 1 to 8")


def _add_segment(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add("IN_DIR", type=command.path, help="the pictures")
  add("OUT_DIR", type=command.path, help="for labels and overlays")
  add("--server", required=True, metavar="URL",
      help="as https://host or http://127.0.0.1:8000")
  add("--at-most", default="blockwise", metavar="SCHEME",
      help="refuse a server whose scheme may show more of a picture than this"
      " one (default: %(default)s)")
  add("--smallest-block", type=int, default=8, metavar="M",
      help="and in smaller blocks, or in such as are no multiples; they show"
      " more (default: %(default)s)")
  add("--level", default="",
      help="show less than the server's scheme does, as q4: of each 4 groups of"
      " sorted values the mean (docs/levels.md)")
  _add_protect(parser)
  _add_noise(parser)
  add("--form", action="store_true",
      help="send the canonical form, all that a ciphertext shows, and no"
      " ciphertext: there is no key then")
  add("--compact", action="store_true",
      help="send that form in few bytes, not as a picture (docs/levels.md)")
  add("--refine", type=command.path, metavar="FILE",
      help="refine the answers here, with the plain pictures: the"
      " refiner.safetensors that --mode=refine writes")
  add("--resize", default="", metavar="N",
      help="bring pictures to N pixels on the shorter side, or to exactly HxW,"
      " before they are encrypted; labels have the pictures' own size")
  add("--no-pad", action="store_true",
      help="refuse pictures whose size is no multiple of the block size")
  add("--jobs", type=int, default=4,
      help="pictures at a time (default: %(default)s)")
  add("--patience", type=float, default=300, metavar="SECONDS",
      help="how long to try again while the server is busy or away"
      " (default: %(default)g)")
  add("--insecure", action="store_true",
      help="allow http:// to another machine: everyone on the way sees what is"
      " sent and what comes back")


def protection_of(args: argparse.Namespace) -> protect.Protection | None:
  """What the arguments say of protection; UserError where they do not fit."""
  if args.protect is not None:
    if args.epsilon is not None or args.rho is not None:
      raise UserError(
          "--protect takes blocks together, and --epsilon and --rho add noise"
          " to each; give one of the two."
      )
    return protect.read(args.protect, args.protect_cell or "region")
  if args.protect_cell:
    raise UserError("--protect-cell has no effect without --protect.")
  return None


def noise_of(args: argparse.Namespace) -> noise.Noise | None:
  """What the arguments say of noise; UserError where they do not fit."""
  crop = getattr(args, "crop", False)
  if args.epsilon is None and args.rho is None:
    for name in ("pixels", "groups", "bits", "crop"):
      if getattr(args, name, None):
        raise UserError(f"--{name} has no effect without --epsilon or --rho.")
    return None
  if args.pixels is None:
    raise UserError(
        "--epsilon and --rho need --pixels, in how many pixels pictures may"
        " differ that are to look alike."
    )
  if args.level:
    raise UserError(
        f"--level={args.level} with noise: give --groups or --bits in its"
        " place."
    )
  if getattr(args, "labels", None) is not None:
    raise UserError(
        "--labels: labels show where each class is, to the pixel, and no noise"
        " protects them; leave out --epsilon and --rho."
    )
  budget = private.Budget(args.pixels, args.epsilon, args.rho)
  groups = 1 if args.groups is None else args.groups
  levels.check_noisy(groups, args.bits or 0)
  return noise.Noise(budget, groups, args.bits or 0, crop)
