"""Command line: python -m ppseg_jax.attacks --config=configs/attacks.py

Attacks every scheme of the config with every attack of the config, prints a
table and writes attacks.json and panels/ to --workdir.
"""

from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from ppseg_jax import command
from ppseg_jax.attacks import suite
from ppseg_jax.errors import UserError, fail

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "What to attack and how, a Python file.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "runs/attacks", "Folder of attacks.json and panels/."
)


def _parse(argv: list[str]) -> list[str]:
  return command.parse(argv, "configs/attacks.py")


def _run(_: list[str]) -> None:
  logging.set_verbosity(logging.ERROR)  # orbax tells of every step it takes
  folder = Path(_WORKDIR.value)
  try:
    suite.run(_CONFIG.value, folder, lambda text: print(text, flush=True))
  except UserError as error:
    fail(error)
  print(f"done: attacks.json and panels/ lie in {folder.absolute()}")


if __name__ == "__main__":
  app.run(_run, flags_parser=_parse)
