"""Command line: python -m ppseg_jax.attacks --config=configs/attacks.py

Attacks every scheme of the config with every attack of the config, prints a
table and writes result.json and panels/ to --workdir.
"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from ppseg_jax.attacks import suite
from ppseg_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "What to attack and how, a Python file.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "runs/attacks", "Folder of result.json and panels/."
)


def _fail(error: Exception | str):
  print("error:", " ".join(str(error).split()), file=sys.stderr)
  sys.exit(2)


def _parse(argv: list[str]) -> list[str]:
  try:
    rest = flags.FLAGS(argv)
    if _CONFIG.value is None:
      _fail("--config is missing; try --config=configs/attacks.py.")
    if rest[1:]:
      _fail(f"'{rest[1]}' is not understood; flags begin with --.")
    _CONFIG.value.to_dict()  # raises what kept the file from loading
    return rest
  except (AttributeError, KeyError) as error:
    field = error.args[0] if error.args else ""
    _fail(f"the config has no field {field}; see the config file for its"
          " fields.")
  except (flags.Error, OSError) as error:
    _fail(str(error).strip().splitlines()[-1].split("UserError: ")[-1])


def _run(_: list[str]) -> None:
  folder = Path(_WORKDIR.value)
  try:
    suite.run(_CONFIG.value, folder, lambda text: print(text, flush=True))
  except UserError as error:
    _fail(error)
  print(f"done: result.json and panels/ lie in {folder.absolute()}")


if __name__ == "__main__":
  app.run(_run, flags_parser=_parse)
