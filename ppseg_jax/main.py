"""Command line: python -m ppseg_jax.main --config=configs/setr_enc.py

The config file may take an argument (`configs/setr_enc.py:camvid`), and each
field can be overridden (`--config.steps=100`). Those of this package are found
from any folder by their names alone (`setr_enc.py:camvid`).
"""

import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from ppseg_jax import command
from ppseg_jax.errors import UserError


def _define(values: flags.FlagValues) -> None:
  flags.DEFINE_string(
      "workdir", None,
      "Folder of everything the run writes; runs/<config>[-<argument>] if not"
      " given.", flag_values=values,
  )
  flags.DEFINE_enum(
      "mode", "train", list(_MODES),
      "train (or go on training), eval a trained model, predict on a folder,"
      " export weights as safetensors, fit the client's refinement, or verify"
      " the stored figures of a workdir, for which --config need not be given.",
      flag_values=values,
  )
  flags.DEFINE_bool(
      "distributed", False,
      "Work together with the other processes that SLURM's srun, Open MPI, GKE"
      " or Cloud TPU have started with this command.", flag_values=values,
  )
  flags.DEFINE_string(
      "coordinator", "",
      "HOST:PORT of process 0, any free port, where that is not found out by"
      " --distributed alone.", flag_values=values,
  )
  flags.DEFINE_integer(
      "processes", 0, "How many there are, with --coordinator.",
      lower_bound=0, flag_values=values,
  )
  flags.DEFINE_integer(
      "process", None,
      "Which of them this is, from 0; if not given, what JOB_COMPLETION_INDEX"
      " of Kubernetes or the launcher's variable says.", lower_bound=0,
      flag_values=values,
  )
  flags.DEFINE_integer(
      "heartbeat", 100,
      "Seconds without a sign of life from a process, after which the others"
      " end.", lower_bound=1, flag_values=values,
  )


# The modes: (config, or None, and workdir) -> exit code. What they need is
# imported by them, so that a mistyped flag is answered at once.


def _train(config: ConfigDict, folder: Path) -> int:
  from ppseg_jax import evaluate
  from ppseg_jax.train import train

  print(evaluate.report(train(config, folder)))
  print("done: result.json, panels/, metrics.jsonl, events/ and checkpoints/"
        f" lie in {folder.absolute()}")
  return 0


def _eval(config: ConfigDict, folder: Path) -> int:
  from ppseg_jax import evaluate
  from ppseg_jax.runs import record

  result = evaluate.evaluate_trained(config, folder)
  name = record.name_of(config)
  print(f"tested on scheme '{config.eval.scheme}', trained on"
        f" '{config.scheme}':")
  print(evaluate.report(result))
  print(f"done: eval_{name}.json and panels_{name}/ lie in {folder.absolute()}")
  return 0


def _predict(config: ConfigDict, folder: Path) -> int:
  from ppseg_jax.predict import predict

  count = predict(config, folder)
  print(f"done: labels of {count} image(s) lie in"
        f" {(folder / 'predict').absolute()}")
  return 0


def _export(config: ConfigDict, folder: Path) -> int:
  from ppseg_jax.runs import model

  space = model.label_space(config, folder)
  path = model.export(config, folder, space.num_classes)
  print(f"done: the weights lie in {path.absolute()}")
  return 0


def _refine(config: ConfigDict, folder: Path) -> int:
  from ppseg_jax.refine import fit

  print(fit.report(fit.refine(config, folder)))
  print("done: refine_*.json, panels_refine_*/ and refine.npz lie in"
        f" {folder.absolute()}")
  return 0


def _verify(config: ConfigDict | None, folder: Path) -> int:
  from ppseg_jax import verify

  return 0 if verify.verify(folder, config) else 1


_MODES: dict[str, Callable[[ConfigDict, Path], int]] = {
    "train": _train, "eval": _eval, "predict": _predict, "export": _export,
    "refine": _refine, "verify": _verify,
}


def _main(argv: list[str]) -> int:
  given = command.parse(
      argv, __doc__, "configs/setr_enc.py", _define,
      optional=lambda values: values.mode == "verify",
  )
  mode, workdir = given.flags.mode, given.flags.workdir
  if given.config is None and not workdir:
    raise UserError(
        "--mode=verify needs the --workdir of a run, or its --config."
    )
  folder = command.path(workdir) if workdir else Path("runs") / given.name

  def body() -> int:
    from ppseg_jax import compiled, memory

    compiled.keep()
    if mode == "train":
      memory.keep()
    return _MODES[mode](_resolved(given.config, mode), folder)

  values = given.flags
  if not (values.distributed or values.coordinator or values.processes
          or values.process is not None):
    return body()
  from ppseg_jax import distributed

  def joined() -> int:
    distributed.check_one_file_system(folder)
    return body()

  distributed.start(
      values.coordinator, values.processes, values.process, values.heartbeat,
      noted=mode == "train",
  )
  return distributed.together(joined, command.answer)


def _resolved(config: ConfigDict | None, mode: str) -> ConfigDict | None:
  """The checked config of a mode; --mode=verify has its own at hand."""
  if config is None:
    return None
  from ppseg_jax import config as config_checks

  config = config_checks.resolve(config)
  for name in ("adapt", "data_name"):
    if config.eval[name] and mode not in ("eval", "verify"):
      raise UserError(
          f"eval.{name} has no effect with --mode={mode}; use --mode=eval."
      )
  return config


def main(argv: list[str] | None = None) -> int:
  """Runs a command line, sys.argv by default; returns the exit code."""
  words = sys.argv[1:] if argv is None else argv
  return command.run(lambda: _main(words))


if __name__ == "__main__":
  sys.exit(main())
