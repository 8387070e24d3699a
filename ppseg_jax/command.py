"""The frame of the command lines: flags, files of configs/, errors, exit codes.

Exit codes: 0 all is done; 1 something of it failed, and is named; 2 nothing
could be done, or no more, for the reason in one line on stderr; 130 and 143
stopped by SIGINT and SIGTERM.
"""

import argparse
import contextlib
import dataclasses
import errno
import gc
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import ml_collections
from absl import flags
from absl import logging as absl_logging
from ml_collections import config_flags

import ppseg_jax.configs
from ppseg_jax.errors import Terminated, UserError, say

# Fields of configs that are paths.
_PATHS = ("data.dir", "predict.dir", "start.workdir", "model.pretrained",
          "loss.teacher", "recognition.workdir")

_MEMORY = (
    "the device is out of memory; let a batch be worked through in more parts"
    " (--config.accumulate=2), compute activations again instead of keeping"
    " them (--config.model.remat=True) or make --config.batch_size smaller."
)


def run(body: Callable[[], int]) -> int:
  """Calls the body of a command; its exit code, or that of what it raised.

  SIGTERM raises `Terminated` in the body, and absl's log is silent; both are as
  before when this returns.
  """
  with _terminable(), _quiet():
    return answer(body)


def answer(body: Callable[[], int]) -> int:
  """`run` inside its frame.

  What a user can mend is printed on one line of stderr. An exception that is
  none of these is a mistake in this program and goes on with its traceback.
  """
  try:
    return body()
  except SystemExit as stop:  # of argparse, after --help
    return stop.code or 0
  except KeyboardInterrupt as stop:
    print(str(stop) or "stopped; the same command goes on from here.",
          file=sys.stderr)
    return 143 if isinstance(stop, Terminated) else 130
  except UserError as error:
    say(error)
    return 2
  except Exception as error:
    sentence = _sentence(error)
    if not sentence:
      raise
    say(sentence)
  gc.collect()  # while it is quiet: tasks that failed tell of it as they go
  return 2


def _sentence(error: Exception) -> str:
  """What to tell the user of the machine's failing; '' if it is no such."""
  if any(_is_full(cause) for cause in _causes(error)):
    where = getattr(error, "filename", None)
    return (f"{f'{where}: ' if where else ''}no space is left on the disk; make"
            " some, and the same command goes on.")
  if isinstance(error, OSError):
    what = error.strerror or str(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{what}; mend that, and the same command goes on."
  jax = sys.modules.get("jax")  # whatever raises its errors has imported it
  if jax and isinstance(error, jax.errors.JaxRuntimeError) and (
      "RESOURCE_EXHAUSTED" in str(error)
  ):
    return _MEMORY
  return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  """The exception and what led to it, each once."""
  seen = set()
  while error is not None and id(error) not in seen:
    seen.add(id(error))
    yield error
    error = error.__cause__ or error.__context__


def _is_full(error: BaseException) -> bool:
  """Whether a disk, or a quota, is full; tensorstore says so in its text."""
  if isinstance(error, OSError):
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
  return "No space left on device" in str(error)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
  """SIGTERM raises `Terminated`, once: a second may not cut it short."""
  if threading.current_thread() is not threading.main_thread():
    yield  # signals are the main thread's
    return

  def stop(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated

  before = signal.signal(signal.SIGTERM, stop)
  try:
    yield
  finally:
    signal.signal(
        signal.SIGTERM, signal.SIG_DFL if before is None else before
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps to the program's own words.

  orbax logs every step it takes, warns of what is meant so, and logs errors
  that it raises as well; after one, tasks and tensorstore's threads tell of it
  once more, each for itself.
  """
  verbosity, hook = absl_logging.get_verbosity(), sys.unraisablehook
  tasks = logging.getLogger("asyncio")
  level = tasks.level

  def all_but_those(unraisable):
    if "Event loop is closed" not in str(unraisable.exc_value):
      hook(unraisable)

  absl_logging.set_verbosity(absl_logging.FATAL)
  tasks.setLevel(logging.CRITICAL)
  sys.unraisablehook = all_but_those
  try:
    yield
  finally:
    absl_logging.set_verbosity(verbosity)
    tasks.setLevel(level)
    sys.unraisablehook = hook


class Parser(argparse.ArgumentParser):
  """An argparse parser whose errors are `UserError`s."""

  def __init__(self, **kwargs):
    super().__init__(
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs,
    )

  def error(self, message: str) -> NoReturn:
    raise UserError(message)


def path(text: str) -> Path:
  """A path as a user gives it: shells leave the ~ of --flag=~/x as it is."""
  return Path(os.path.expanduser(text))


def part(text: str) -> tuple[int, int]:
  """(i, n) of --part=i/n, the i-th of n parts from 1; UserError otherwise."""
  try:
    number, count = map(int, text.split("/"))
  except ValueError:
    number = count = 0
  if not 1 <= number <= count:
    raise UserError(f"--part={text} must be like 1/4, at most 4/4.")
  return number, count


def find(text: str, kind: str, folder: str = "") -> tuple[Path, str]:
  """The file that a user names by `FILE[:ARGUMENT]`, and the argument.

  A file that is there is taken; else one of those that this package brings, by
  its path in a checkout or by its name alone, from whichever folder.

  Args:
    text: as `configs/setr_enc.py:camvid` or `setr_enc.py:camvid`.
    kind: what to call it, `config` or `suite`.
    folder: of configs/, in which those of this kind lie.

  Raises:
    UserError: there is no such file; names those that there are.
  """
  name, _, argument = text.partition(":")
  given = path(name)
  if given.is_file():
    return given, argument
  ours = Path(ppseg_jax.configs.__path__[0], folder)
  below = given.as_posix().removeprefix("configs/").removeprefix(f"{folder}/")
  if not given.is_absolute() and (ours / below).is_file():
    return ours / below, argument
  names = sorted(file.name for file in ours.glob("[!_]*.py"))
  raise UserError(
      f"{kind} file '{name}' does not exist; give a path, or one of those that"
      f" come along: {', '.join(names)}."
  )


def expand(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config, with ~ expanded in its fields that are paths."""
  for name in _PATHS:
    section, _, field = name.partition(".")
    if section in config and config[section].get(field):
      config[section][field] = str(path(config[section][field]))
  return config


@dataclasses.dataclass(frozen=True)
class Command:
  """A parsed command line.

  Attributes:
    flags: values of the flags of `define`, as attributes.
    config: what --config loads, with the fields set by --config.x=y and paths
      expanded; None where there is no --config.
    name: of the config and its argument, as `setr_enc-camvid`.
  """

  flags: flags.FlagValues
  config: ml_collections.ConfigDict | None
  name: str


def parse(
    argv: list[str], doc: str, example: str,
    define: Callable[[flags.FlagValues], None],
    optional: Callable[[flags.FlagValues], bool] = lambda _: False,
) -> Command:
  """absl's parsing, with --config and its fields, into flags of its own.

  Args:
    argv: without the name of the program.
    doc: what --help shows above the flags.
    example: a config file to name where --config is missing.
    define: defines the other flags.
    optional: whether --config may be missing, by the other flags.

  Raises:
    UserError: what is wrong, in a sentence.
    SystemExit: after --help.
  """
  argv = ["", *_with_config_found(argv)]
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
      "config", None, "The experiment, a Python file.", flag_values=values,
      lock_config=True, sys_argv=argv,
  )
  define(values)
  if {"-h", "-help", "--help"} & set(argv):
    print(doc, values.get_help(include_special_flags=False), sep="\n")
    raise SystemExit(0)
  try:
    rest = values(argv)
    config = values.config
    if config is not None:
      config.to_dict()  # raises what kept the file from loading
  except (AttributeError, KeyError) as error:
    field = error.args[0] if error.args else ""
    like = re.search(
        r"(\w+).{,4}Did you mean \"(\w+)\"", str(field), re.DOTALL
    )
    field, hint = (like[1], f"; did you mean {like[2]}?") if like else (
        str(field).strip("'\""), "; see the config file for its fields."
    )
    raise UserError(
        f"the config has no field {field}{hint}"
    ) from None
  except (flags.Error, OSError) as error:
    # An error inside a config file comes as the text of its traceback.
    text = str(error).strip().splitlines()[-1]
    raise UserError(text.split("UserError: ")[-1]) from None
  except Exception as error:
    raise UserError(
        f"the config file does not load ({type(error).__name__}: {error});"
        " those that come along are imported as in 'from ppseg_jax.configs"
        " import setr_enc'."
    ) from None
  finally:  # another call's file would be executed into the same module
    sys.modules.pop("config_config", None)
  if config is None and not optional(values):
    raise UserError(f"--config is missing; try --config={example}.")
  if rest[1:]:
    raise UserError(f"'{rest[1]}' is not understood; flags begin with --.")
  if config is None:
    return Command(values, None, "")
  file, _, argument = config_flags.get_config_filename(
      values["config"]
  ).partition(":")
  name = "-".join(filter(None, (Path(file).stem, argument)))
  return Command(values, expand(config), name)


def _with_config_found(argv: list[str]) -> list[str]:
  """The words with the file of --config found, and --config before its fields.

  ml_collections demands that order.
  """
  argv = list(argv)
  for place, word in enumerate(argv):
    flag, equals, text = word.partition("=")
    if flag not in ("--config", "-config"):
      continue
    if not equals:
      text = "".join(argv[place + 1 : place + 2])
    file, argument = find(text, "config")
    found = f"--config={file}" + (f":{argument}" if argument else "")
    return [found, *argv[:place], *argv[place + (1 if equals else 2) :]]
  return argv
