"""What a suite is: training runs, and the rows of a table that each gives."""

import dataclasses
import importlib.util
import types
from pathlib import Path

import ml_collections

from ppseg_jax import command
from ppseg_jax import config as config_checks
from ppseg_jax.errors import UserError
from ppseg_jax.runs import record, workdir
from ppseg_jax.runs.record import Record
from ppseg_jax.runs.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Row:
  """A line of the table: a trained model, tested.

  Attributes:
    name: of the line.
    shares: who must share what with whom.
    test: fields of the config's `eval` section under which the last checkpoint
      is evaluated; empty for the training run's own result.
    leaks: what the cloud sees; that of the tested scheme if empty.
    attacked: the scheme whose attacks tell what that is worth; the tested one
      if empty.
    refined: in place of a test, how the client refines: one of
      `refine.fit.VARIANTS`.
  """

  name: str
  shares: str
  test: dict = dataclasses.field(default_factory=dict)
  leaks: str = ""
  attacked: str = ""
  refined: str = ""

  @property
  def mode(self) -> str:
    """Of the command that measures it, once its run is trained."""
    return "refine" if self.refined else "eval" if self.test else "train"


@dataclasses.dataclass(frozen=True)
class Run:
  """A training run, which may serve several rows.

  Attributes:
    name: of its folder.
    config: a config file, with its argument if it takes one:
      `configs/setr_enc.py:camvid`.
    rows: what it gives.
    fields: fields of the config set otherwise, as `--config.<name>=<value>`. In
      a value that is text, `{workdir}` stands for the suite's folder and
      `{seed}` for the seed.
    seeds: of the runs, one training each.
    after: name of the run whose result, under the same seed, it starts from.
  """

  name: str
  config: str
  rows: tuple[Row, ...]
  fields: dict = dataclasses.field(default_factory=dict)
  seeds: tuple[int, ...] = (0,)
  after: str = ""


@dataclasses.dataclass(frozen=True)
class Job:
  """A run under one seed, in a folder of its own."""

  run: Run
  seed: int
  folder: Path
  fields: dict  # every field that differs from the config file

  @property
  def name(self) -> str:
    return self.folder.name

  def config(self, row: Row | None = None) -> ml_collections.ConfigDict:
    """The checked config of the training, or of a row's test."""
    path, argument = command.find(self.run.config, "config")
    config = _module(path).get_config(*filter(None, [argument]))
    fields = dict(self.fields)
    if row:
      fields |= {f"eval.{name}": value for name, value in row.test.items()}
    for name, value in fields.items():
      _set(config, name, value)
    try:
      return config_checks.resolve(command.expand(config))
    except UserError as error:
      raise UserError(f"run {self.name}: {error}") from None

  def files(self, row: Row | None = None) -> tuple[Path, Path]:
    """(record, folder of panels) of the training, or of a row."""
    run = Workdir(self.folder)
    match row.mode if row else "train":
      case "train":
        return run.result, run.panels
      case "refine":
        return run.refinement(row.refined)
      case "eval":
        return run.test(record.name_of(self.config(row)))

  def command(self, row: Row | None = None) -> list[str]:
    """Arguments of `python -m ppseg_jax.main` for the training or a test."""
    fields = dict(self.fields)
    if row:
      fields |= {f"eval.{name}": value for name, value in row.test.items()}
    return [
        f"--config={self.run.config}",
        *(f"--config.{name}={value}" for name, value in fields.items()),
        f"--workdir={self.folder}",
        *([f"--mode={row.mode}"] if row else []),
    ]

  def done(self, row: Row | None = None) -> bool:
    """Whether the training, or a row's test, has left its record.

    Raises UserError where the folder holds a run of another config.
    """
    workdir.check_config(self.folder, self.config().to_dict())
    result = self.found()
    if not row or row.mode == "train" or not result:
      return result is not None
    test = self.found(row)
    if not test:
      return False
    of_this = "checkpoint_sha256"
    refined = ("refine.",) if row.mode == "refine" else ()
    return test.protocol[of_this] == result.protocol[of_this] and (
        not workdir.differing(
            test.config, self.config(row).to_dict(), matter=refined
        )
    )

  def found(self, row: Row | None = None) -> Record | None:
    """The record of the training, or of a row; None where there is none."""
    try:
      return record.read(self.files(row)[0])
    except FileNotFoundError:
      return None


def _module(path: Path) -> types.ModuleType:
  spec = importlib.util.spec_from_file_location(path.stem, path)
  if spec is None:
    raise UserError(f"'{path}' is no Python file.")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except Exception as error:
    raise UserError(
        f"'{path}' does not load ({type(error).__name__}: {error})."
    ) from error
  return module


def _set(config: ml_collections.ConfigDict, name: str, value) -> None:
  """Sets a field given by its dotted name, in the type it has."""
  *sections, last = name.split(".")
  for section in sections:
    config = config.get(section, ml_collections.ConfigDict())
  if last not in config:
    raise UserError(f"the suite sets {name}, but the config has no such field.")
  if isinstance(config[last], float):
    value = float(value)
  try:
    config[last] = value
  except TypeError:
    raise UserError(
        f"the suite sets {name}={value!r}, but that field is of type"
        f" {type(config[last]).__name__}."
    ) from None


def load(path_and_argument: str) -> list[Run]:
  """The runs of a suite file: `paper.py:demo`, see `command.find`.

  Raises UserError for a missing file or argument, and for names that do not fit
  together.
  """
  path, argument = command.find(path_and_argument, "suite", "suites")
  module = _module(path)
  if not hasattr(module, "get_suite"):
    raise UserError(f"suite file '{path}' has no function get_suite.")
  runs = module.get_suite(*filter(None, [argument]))
  seen = set()
  for run in runs:
    if run.after and run.after not in seen:
      raise UserError(
          f"suite '{path}': run {run.name} comes after {run.after}, which is"
          " not above it; put it there."
      )
    if run.name in seen:
      raise UserError(f"suite '{path}' has two runs {run.name}; rename one.")
    seen.add(run.name)
  names = [row.name for run in runs for row in run.rows]
  for name in names:
    if names.count(name) > 1:
      raise UserError(f"suite '{path}' has two rows '{name}'; rename one.")
  return runs


def jobs(
    runs: list[Run], root: Path, seeds: tuple[int, ...] = (),
    data_dir: str = "",
) -> list[Job]:
  """A job for each run and seed, seed by seed, so that one is whole early.

  Args:
    runs: of the suite.
    root: the suite's folder.
    seeds: in place of the runs' own.
    data_dir: for `data.dir`, in place of the suite's own.
  """
  every = []
  for run in runs:
    for place, seed in enumerate(seeds or run.seeds):
      fields = {
          name: value.format(workdir=root, seed=seed)
          if isinstance(value, str) else value
          for name, value in run.fields.items()
      }
      if data_dir:
        fields["data.dir"] = data_dir
      job = Job(run, seed, root / f"{run.name}-{seed}", fields | {"seed": seed})
      _check_records(job)
      every.append((place, job))
  return [job for _, job in sorted(every, key=lambda pair: pair[0])]


def _check_records(job: Job) -> None:
  paths = [job.files(row)[0] for row in job.run.rows]
  for row, path in zip(job.run.rows, paths, strict=True):
    if paths.count(path) > 1:
      raise UserError(
          f"run {job.run.name}: row '{row.name}' and another would both be"
          f" written to {path.name}; let their tests differ."
      )


def found_seeds(run: Run, root: Path) -> tuple[int, ...]:
  """The seeds under which the run has a folder."""
  folders = (path.name for path in root.glob(f"{run.name}-*") if path.is_dir())
  seeds = (name.removeprefix(f"{run.name}-") for name in folders)
  return tuple(sorted(int(seed) for seed in seeds if seed.isdigit()))


def with_found_seeds(
    runs: list[Run], root: Path, seeds: tuple[int, ...] = ()
) -> list[Run]:
  """The runs with every seed that has a folder, and `seeds` or their own."""
  return [dataclasses.replace(run, seeds=tuple(sorted(
      {*(seeds or run.seeds), *found_seeds(run, root)}
  ))) for run in runs]


def part(every: list[Job], index: int, count: int) -> list[Job]:
  """Part `index` of `count`, from 1; a run stays with the one it comes after.

  Every job is in exactly one part.
  """
  first = {}  # what a job's chain begins with -> its part
  chosen = []
  for job in every:
    begin = job.run.name
    runs = {other.run.name: other.run for other in every}
    while begin in runs and runs[begin].after:
      begin = runs[begin].after
    place = first.setdefault((begin, job.seed), len(first) % count)
    if place == index - 1:
      chosen.append(job)
  return chosen
