"""What the command lines that take a --config have in common."""

from collections.abc import Callable
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ppseg_jax.errors import fail


def config_file(values: flags.FlagValues = flags.FLAGS) -> tuple[Path, str]:
  """The file and the argument of --config: configs/setr_enc.py and camvid."""
  path = config_flags.get_config_filename(values["config"])
  name, _, argument = path.partition(":")
  return Path(name), argument


def parse(
    argv: list[str], example: str,
    optional: Callable[[], bool] = lambda: False,
    values: flags.FlagValues = flags.FLAGS,
) -> list[str]:
  """absl's parsing with --config; what is wrong is said in one line.

  Args:
    argv: with the name of the program first.
    example: a config file to name where --config is missing.
    optional: whether it may be, asked when the other flags are known.
    values: the flags, among them `config`.
  """
  try:
    rest = values(argv)
    config = values.config
    if config is None and not optional():
      fail(f"--config is missing; try --config={example}.")
    if config is not None and not config_file(values)[0].is_file():
      fail(f"config file '{config_file(values)[0]}' does not exist; the"
           " experiments are in configs/.")
    if rest[1:]:
      fail(f"'{rest[1]}' is not understood; flags begin with --.")
    if config is not None:
      config.to_dict()  # raises what kept the file from loading
    return rest
  except (AttributeError, KeyError) as error:
    field = error.args[0] if error.args else ""
    fail(f"the config has no field {field}; see the config file for its"
         " fields.")
  except (ImportError, SyntaxError) as error:
    fail(f"the config file does not load ({error}); run the command from the"
         " root of the repository, where configs/ lies.")
  except (flags.Error, OSError) as error:
    # An error inside a config file comes as the text of its traceback.
    fail(str(error).strip().splitlines()[-1].split("UserError: ")[-1])
