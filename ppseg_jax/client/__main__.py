"""Command line of the client: python -m ppseg_jax.client --help"""

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ppseg_jax import command, pictures
from ppseg_jax.client import (
    contribute,
    folders,
    noise,
    parts,
    protect,
    show,
    walk,
)
from ppseg_jax.client.arguments import (
    WARNING,
    noise_of,
    parser,
    protection_of,
)
from ppseg_jax.encryption import (
    Scheme,
    at_level,
    get_scheme,
    regions,
    takes_key,
)
from ppseg_jax.errors import UserError, say


def _report(verb: str, summary: walk.Summary, out: Path) -> int:
  """Prints what became of each file; the exit code."""
  for text in summary.failed:
    say(text)
  if summary.skipped:
    print(f"skipped, not a picture ({len(summary.skipped)}):",
          ", ".join(summary.skipped))
  if summary.padded:
    print(f"padded ({len(summary.padded)}): their sizes are no multiple of the"
          " block size, and their last rows and columns show finer than a"
          " block; --no-pad refuses them")
  if summary.unprotected:
    print(f"nothing in them is protected ({len(summary.unprotected)}):",
          ", ".join(summary.unprotected))
  if summary.large:
    print(f"large ({len(summary.large)}): twice as high as the server is ready"
          " for, or more: things in them are larger than its model knows;"
          " --resize brings pictures to a size")
  if len(summary.opened) > 1:
    for key_file, names in summary.opened.items():
      print(f"{key_file} opens {len(names)} picture(s)")
  if summary.others:
    print(f"{summary.others} picture(s) belong to other parts")
  before = f", {len(summary.before)} done before" if summary.before else ""
  failed = f", {len(summary.failed)} refused" if summary.failed else ""
  print(f"done: {len(summary.done)} picture(s) {verb}{before}{failed}; they lie"
        f" in {out.absolute()}")
  return 1 if summary.failed else 0


def _run(args: argparse.Namespace) -> int:
  match args.command:
    case "encrypt":
      scheme = get_scheme(args.scheme)
      released = noise_of(args)
      if args.level:
        scheme = at_level(scheme, args.level)
      protection = protection_of(args)
      if released:
        scheme = released.scheme(scheme)
      print(f"scheme '{scheme.name}' still shows:"
            f" {_shown(scheme, protection, released)}")
      print(WARNING, flush=True)
      if args.keys is None and takes_key(scheme):
        print("Without --keys the keys are forgotten: nobody can decrypt.",
              flush=True)
      part = parts.Part(*command.part(args.part))
      rest = (args.OUT_DIR, scheme, args.block, args.keys, not args.no_pad,
              part)
      if args.labels is not None:
        print(contribute.leaks(scheme), flush=True)
        summary = contribute.contribute_folder(
            args.IN_DIR, args.labels, *rest, args.classes, protection
        )
      elif args.classes:
        raise UserError("--classes has no effect without --labels.")
      else:
        summary = folders.encrypt_folder(
            args.IN_DIR, *rest, protection=protection, noise=released
        )
      return _report("encrypted", summary, args.OUT_DIR)
    case "decrypt":
      scheme = get_scheme(args.scheme) if args.scheme else None
      summary = folders.decrypt_folder(
          args.IN_DIR, args.OUT_DIR, args.keys, scheme
      )
      return _report("decrypted", summary, args.OUT_DIR)
    case "show":
      levels, what = (), "under every scheme"
      if args.levels is not None:
        levels = tuple(
            "" if each == "all" else each for each in args.levels.split(",")
        )
        what = "at each level, as they are sent and as they are restored,"
      count = show.panels(
          args.IN, args.OUT, args.block, args.count, levels, _restore
      )
      print(f"done: {count} picture(s) {what} lie in {args.OUT.absolute()}")
      return 0
    case "segment":
      return _segment(args)


def _shown(
    scheme: Scheme, protection: protect.Protection | None,
    released: noise.Noise | None,
) -> str:
  """What the server, or whoever has the ciphertexts, sees of each picture."""
  if released:
    return released.says()
  if protection:
    return regions.leaks(scheme, protection.cell)
  return scheme.leaks


def _restore(seen: np.ndarray, scheme: Scheme, block: int) -> np.ndarray:
  """What is made of a ciphertext: by `rank`, or the mosaic without ranks."""
  from ppseg_jax.attacks import ATTACKS, Budget, Knowledge

  knowledge = Knowledge(seen[None], scheme, block)
  try:
    return ATTACKS["rank"](knowledge, 0, Budget()).images[0]
  except UserError:
    return ATTACKS["mosaic"](knowledge, 0, Budget()).images[0]


def _segment(args: argparse.Namespace) -> int:
  """Imports what needs it, flax and HTTP, when it is asked for."""
  from ppseg_jax.client import segment
  from ppseg_jax.client.cloud import Cloud

  pictures.check_block(args.smallest_block, "--smallest-block")
  for name, value, least, most in (("jobs", args.jobs, 1, 64),
                                   ("patience", args.patience, 1, 86_400)):
    if not least <= value <= most:
      raise UserError(f"--{name}={value} must be in {least} to {most}.")
  if not re.fullmatch(r"|[1-9]\d{0,4}(x[1-9]\d{0,4})?", args.resize):
    raise UserError(
        f"--resize={args.resize} must be like 512, the shorter side, or like"
        " 96x128, height and width."
    )
  limit, released = get_scheme(args.at_most), noise_of(args)
  protection = protection_of(args)
  folders.check_folders(args.IN_DIR, args.OUT_DIR)
  with Cloud(args.server, args.insecure, args.jobs, args.patience) as cloud:
    model = cloud.model(own=limit)
    level = args.level
    if released:
      released.scheme(model.scheme)  # or a refusal
      level = released.level
    # The sums that noise is added to are finer than a level's rounded means.
    segment.check_leak(
        model, limit, args.smallest_block, "" if released else level
    )
    print(f"the server reads '{model.scheme.name}' in blocks of {model.block}"
          f" and knows {len(model.names)} classes; it sees of each picture:"
          f" {_shown(segment.sent_as(model, level), protection, released)}")
    print(WARNING, flush=True)
    summary = segment.segment_folder(
        args.IN_DIR, args.OUT_DIR, cloud, model, segment.Options(
            form=args.form or args.compact, compact=args.compact,
            refiner=segment.read_refiner(args.refine, model)
            if args.refine else None,
            resize=args.resize, level=level, padding=not args.no_pad,
            noise=released, jobs=args.jobs, protection=protection,
        ),
    )
  return _report("segmented", summary, args.OUT_DIR)


@contextlib.contextmanager
def _any_name_prints() -> Iterator[None]:
  """Of a file, that is; standard output is as it was again on leaving."""
  out = sys.stdout
  if not hasattr(out, "reconfigure"):
    yield
    return
  errors = out.errors
  out.reconfigure(errors="backslashreplace")
  try:
    yield
  finally:
    out.reconfigure(errors=errors)


def main(argv: list[str] | None = None) -> int:
  """Runs a command line, sys.argv by default; returns the exit code."""
  with _any_name_prints():
    return command.run(lambda: _run(parser().parse_args(argv)))


if __name__ == "__main__":
  sys.exit(main())
