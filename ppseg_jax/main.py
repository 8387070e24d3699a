"""Command line: python -m ppseg_jax.main --config=configs/setr_enc.py

The config file may take an argument (`configs/setr_enc.py:camvid`), and each
field can be overridden (`--config.steps=100`).
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from ppseg_jax import command
from ppseg_jax.errors import Stopped, UserError, fail, say

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment, a Python file.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None,
    "Folder of everything the run writes; runs/<config>[-<argument>] if not"
    " given.",
)
_MODE = flags.DEFINE_enum(
    "mode", "train",
    ["train", "eval", "predict", "export", "refine", "verify"],
    "train (or go on training), eval a trained model, predict on a folder,"
    " export weights as safetensors, fit the client's refinement, or verify the"
    " stored figures of a workdir, for which --config need not be given.",
)


def _parse(argv: list[str]) -> list[str]:
  rest = command.parse(
      argv, "configs/setr_enc.py", optional=lambda: _MODE.value == "verify"
  )
  if _CONFIG.value is None and not _WORKDIR.value:
    fail("--mode=verify needs the --workdir of a run, or its --config.")
  return rest


def _folder() -> Path:
  if _WORKDIR.value:
    return Path(_WORKDIR.value)
  path, argument = command.config_file()
  return Path("runs") / "-".join(filter(None, (path.stem, argument)))


def _run(_: list[str]) -> None:
  # Imported late, so that a mistyped flag is answered at once.
  from ppseg_jax import config as config_checks
  from ppseg_jax import data, evaluate, predict, verify
  from ppseg_jax.refine import fit as refinement
  from ppseg_jax.runs import model, record
  from ppseg_jax.train import train

  logging.set_verbosity(logging.ERROR)  # orbax warns of what is meant so
  folder = _folder()
  try:
    config = config_checks.resolve(_CONFIG.value) if _CONFIG.value else None
    if config and config.eval.adapt and _MODE.value not in ("eval", "verify"):
      raise UserError(
          f"eval.adapt has no effect with --mode={_MODE.value}; use"
          " --mode=eval."
      )
    match _MODE.value:
      case "train":
        print(evaluate.report(train(config, folder)))
        print(f"done: result.json, panels/, metrics.jsonl, events/ and"
              f" checkpoints/ lie in {folder.absolute()}")
      case "eval":
        result = evaluate.evaluate_trained(config, folder)
        name = record.name_of(config)
        print(f"tested on scheme '{config.eval.scheme}', trained on"
              f" '{config.scheme}':")
        print(evaluate.report(result))
        print(f"done: eval_{name}.json and panels_{name}/ lie in"
              f" {folder.absolute()}")
      case "predict":
        count = predict.predict(config, folder)
        print(f"done: labels of {count} image(s) lie in"
              f" {(folder / 'predict').absolute()}")
      case "export":
        space, _ = data.SOURCES[config.data.name]
        path = model.export(config, folder, space.num_classes)
        print(f"done: the weights lie in {path.absolute()}")
      case "refine":
        print(refinement.report(refinement.refine(config, folder)))
        print("done: refine_*.json, panels_refine_*/ and refine.npz lie in"
              f" {folder.absolute()}")
      case "verify":
        sys.exit(0 if verify.verify(folder, config) else 1)
  except UserError as error:
    fail(error)
  except Stopped as stopped:
    say(stopped)
    sys.exit(128 + stopped.signal)
  except OSError as error:
    if not error.filename:
      raise
    fail(f"{error.filename}: {error.strerror}; mend that, and the same command"
         " goes on.")


def main() -> None:
  app.run(_run, flags_parser=_parse)


if __name__ == "__main__":
  main()
