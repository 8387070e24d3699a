"""Looks at a data set, or writes it anew, before anything is trained on it.

python -m ppseg_jax.data check --config=FILE[:ARG] [--json] [--panel=FILE.png]
    Opens and decodes every file of every split of `config.data`, and prints a
    table of the classes: pixels, their share, and the images that show them.
    Exit code 0: all files are sound; 2: bad files are named on stderr, one a
    line, or the command is wrong. --json prints the same as JSON; --panel
    writes 16 random images of train under their labels.
python -m ppseg_jax.data show --config=FILE[:ARG] [--panel=FILE.png]
    Writes that panel alone.
python -m ppseg_jax.data init FOLDER
    Writes a first FOLDER/classes.json, for data.name=folder, from the labels.
python -m ppseg_jax.data convert --config=FILE[:ARG] [--level=0 to 9] FOLDER
    Writes `config.data`, decoded and resized, into FOLDER as a data set of
    tensorflow-datasets, which `data.name=tfds:NAME` reads. Needs the extra
    tfds. The level is zlib's, 6 if not given; 0 is larger and read faster.
python -m ppseg_jax.data export --config=FILE[:ARG] FOLDER
    Writes the same as FOLDER/train and FOLDER/val with images, labels and
    classes.json, which `data.name=folder` reads; also of the drawn scenes.
"""

import json
import sys
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from ppseg_jax import command, data, viz
from ppseg_jax import config as config_checks
from ppseg_jax.data import check, own
from ppseg_jax.data.convert import LEVEL, convert
from ppseg_jax.data.export import export
from ppseg_jax.data.report import Report
from ppseg_jax.errors import UserError, say

_EXAMPLE = "configs/setr_enc.py:camvid"
_SHOWN = 16  # images of a panel
_COMMON = 3  # sizes that are named


def _table(report: Report, name: str) -> str:
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
      head,
      f"  {len(split.sizes)} size(s): {_most(split.sizes)}",
      *([f"  modes: {_most(split.modes)}"] if split.modes else []),
      f"  {'class':<14} {'pixels':>14} {'share':>8} {'images':>7}",
      *(f"  {label:<14} {pixels:>14} {pixels / total:>8.2%} {images:>7}"
        for label, pixels, images in rows),
  ])


def _most(counts: dict[str, int]) -> str:
  """The most frequent of some things, and how often they are."""
  ranked = sorted(counts.items(), key=lambda item: -item[1])
  more = ", ..." if len(ranked) > _COMMON else ""
  return ", ".join(f"{name} ({count})" for name, count in ranked[:_COMMON]
                   ) + more


def _json(report: Report) -> str:
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


def _with_folder(name: str, words: list[str]) -> tuple[Path, list[str]]:
  """The folder to write to, and the flags."""
  folders = [word for word in words if not word.startswith("-")]
  if "--config" in words or len(folders) != 1:
    raise UserError(
        f"{name} needs a config and a folder to write to: {name}"
        f" --config={_EXAMPLE} FOLDER."
    )
  rest = [word for word in words if word.startswith("-")]
  return command.path(folders[0]), rest


def _export(words: list[str]) -> int:
  folder, words = _with_folder("export", words)
  given = command.parse(words, __doc__, _EXAMPLE, lambda values: None)
  count = export(config_checks.resolve(given.config).data, folder)
  print(f"done: {count} pairs lie in {folder}; read them by"
        f" --config.data.name=folder --config.data.dir={folder}")
  return 0


def _convert(words: list[str]) -> int:
  folder, words = _with_folder("convert", words)
  given = command.parse(words, __doc__, _EXAMPLE, lambda values: (
      flags.DEFINE_integer(
          "level", LEVEL, "Of zlib; 0: uncompressed.", lower_bound=0,
          upper_bound=9, flag_values=values,
      )
  ))
  config = config_checks.resolve(given.config).data
  written = convert(config, folder, given.flags.level)
  size = sum(path.stat().st_size for path in written.iterdir())
  print(f"done: {written}, {size / 1e6:.1f} MB; read it by"
        f" --config.data.name=tfds:{written.parent.name}"
        f" --config.data.dir={written.parent.parent}")
  return 0


def _show(config: ConfigDict, path: Path) -> None:
  """Writes random images of train, in their own shape, under their labels."""
  if path.suffix.lower() != ".png":
    raise UserError(f"--panel={path} must end in .png.")
  config = config.copy_and_resolve_references()
  config.resize = "none"
  source = data.load(config, "train", cache=False)
  count = min(_SHOWN, len(source))
  chosen = np.random.default_rng(0).choice(len(source), count, replace=False)
  space = source.label_space
  pictures = [
      viz.overlay(image, space.colourise(labels))
      for image, labels in (source[int(i)] for i in sorted(chosen))
  ]
  viz.save_png(path, viz.sheet(pictures))


def _init(words: list[str]) -> int:
  if len(words) != 1 or words[0].startswith("-"):
    raise UserError(
        "init needs one folder, which holds train/images and train/labels."
    )
  path = own.init(command.path(words[0]))
  print(f"done: {path} declares what the labels hold; give the classes their"
        ' names, and "void": true to what is not to be counted')
  return 0


def _define(values: flags.FlagValues) -> None:
  flags.DEFINE_bool("json", False, "Print JSON.", flag_values=values)
  flags.DEFINE_string(
      "panel", None, f"Where to write {_SHOWN} images under their labels.",
      flag_values=values,
  )


def _main(words: list[str]) -> int:
  if not words or {"--help", "-h"} & {*words}:
    print(__doc__)
    return 0 if words else 2
  name, *rest = words
  if name == "init":
    return _init(rest)
  if name == "convert":
    return _convert(rest)
  if name == "export":
    return _export(rest)
  if name not in ("check", "show"):
    raise UserError(
        f"'{name}' is no command of ppseg_jax.data, which has check, show,"
        f" init, convert and export; try check --config={_EXAMPLE}."
    )
  given = command.parse(rest, __doc__, _EXAMPLE, _define)
  config, panel = config_checks.resolve(given.config), given.flags.panel
  data.check_encrypted(config)
  config = config.data
  if name == "show":
    if given.flags.json:
      raise UserError("--json is of check; show writes a panel alone.")
    panel = panel or "panel.png"
  code = _check(config, given.flags.json) if name == "check" else 0
  if panel and not code:
    path = command.path(panel)
    _show(config, path)
    print(f"done: the panel is {path}",
          file=sys.stderr if given.flags.json else sys.stdout)
  return code


def main(argv: list[str] | None = None) -> int:
  """Runs a command line, sys.argv by default; returns the exit code."""
  words = sys.argv[1:] if argv is None else argv
  return command.run(lambda: _main(words))


if __name__ == "__main__":
  sys.exit(main())
