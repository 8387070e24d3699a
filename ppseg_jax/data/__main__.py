"""Looks at a data set, or writes it anew, before anything is trained on it.

python -m ppseg_jax.data check --config=FILE[:ARG] [--json]
    Opens and decodes every file of every split of `config.data`, and prints a
    table of the classes: pixels, their share, and the images that show them.
    Exit code 0: all files are sound; 2: bad files are named on stderr, one a
    line, or the command is wrong. --json prints the same as JSON.
python -m ppseg_jax.data convert --config=FILE[:ARG] FOLDER
    Writes `config.data`, decoded and resized, into FOLDER as a data set of
    tensorflow-datasets, which `data.name=tfds:NAME` reads. Needs the extra
    tfds.
"""

import json
import sys

from absl import flags
from ml_collections import ConfigDict

from ppseg_jax import command
from ppseg_jax import config as config_checks
from ppseg_jax.data import check
from ppseg_jax.data.convert import convert
from ppseg_jax.errors import UserError, say

_EXAMPLE = "configs/setr_enc.py:camvid"


def _table(report: check.Report, name: str) -> str:
  """The classes of a split, one a line, under what the split is."""
  split = report.splits[name]
  head = f"{name}: {split.images} images"
  if split.drawn:
    return f"{head}, drawn: there are no files to check"
  if split.skipped:
    head += f", {split.skipped} other file(s) skipped"
  rows = report.classes(name)
  total = sum(pixels for _, pixels, _ in rows) or 1
  return "\n".join([
      head, f"  {'class':<14} {'pixels':>14} {'share':>8} {'images':>7}",
      *(f"  {label:<14} {pixels:>14} {pixels / total:>8.2%} {images:>7}"
        for label, pixels, images in rows),
  ])


def _json(report: check.Report) -> str:
  return json.dumps({
      **report.to_json(),
      "classes": {
          name: {label: {"pixels": pixels, "images": images}
                 for label, pixels, images in report.classes(name)}
          for name, split in report.splits.items() if not split.drawn
      },
      "warnings": report.warnings(),
      "failures": report.failures,
  }, indent=2)


def _check(config: ConfigDict, as_json: bool) -> int:
  splits = ("train", "val", *(("left_out",) if config.leave_out else ()))
  report = check.inspect(config, splits)
  if as_json:
    print(_json(report))
  else:
    print(*(_table(report, name) for name in splits), sep="\n")
  for text in report.warnings():
    print("warning:", text, file=sys.stderr)
  for text in report.failures:
    say(text)
  if not report.failures and not as_json:
    print(f"done: {config.name} has no bad file")
  return 2 if report.failures else 0


def _convert(words: list[str]) -> int:
  folders = [word for word in words if not word.startswith("-")]
  if "--config" in words or len(folders) != 1:
    raise UserError(
        f"convert needs a config and a folder to write to: convert"
        f" --config={_EXAMPLE} FOLDER."
    )
  words = [word for word in words if word.startswith("-")]
  given = command.parse(words, __doc__, _EXAMPLE, lambda values: None)
  config = config_checks.resolve(given.config).data
  written = convert(config, command.path(folders[0]))
  size = sum(path.stat().st_size for path in written.iterdir())
  print(f"done: {written}, {size / 1e6:.1f} MB; read it by"
        f" --config.data.name=tfds:{written.parent.name}"
        f" --config.data.dir={written.parent.parent}")
  return 0


def _main(words: list[str]) -> int:
  if not words or {"--help", "-h"} & {*words}:
    print(__doc__)
    return 0 if words else 2
  if words[0] == "convert":
    return _convert(words[1:])
  if words[0] != "check":
    raise UserError(
        f"'{words[0]}' is no command of ppseg_jax.data; try check or convert"
        f" --config={_EXAMPLE}."
    )
  given = command.parse(
      words[1:], __doc__, _EXAMPLE,
      lambda values: flags.DEFINE_bool(
          "json", False, "Print JSON.", flag_values=values
      ),
  )
  return _check(config_checks.resolve(given.config).data, given.flags.json)


def main(argv: list[str] | None = None) -> int:
  """Runs a command line, sys.argv by default; returns the exit code."""
  words = sys.argv[1:] if argv is None else argv
  return command.run(lambda: _main(words))


if __name__ == "__main__":
  sys.exit(main())
