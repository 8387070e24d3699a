"""The README is true: its commands, its code and its pictures."""

import importlib.util
import re
import shlex

import numpy as np
import pytest

from ppseg_jax import config as config_checks
from ppseg_jax.encryption import canonical, encrypt, fresh_keys
from tests.helpers import ROOT, photo

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(
    r"python -m ppseg_jax\.main .*", README.replace("\\\n", " ")
)


def blocks(language):
  return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_first_two_commands_are_the_main_job_and_the_tests():
  main_job, tests = blocks("sh")
  assert "pip install" in main_job and "configs/setr_enc.py" in main_job
  assert "[test]" in tests and "pytest" in tests


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_a_config_and_fields_that_exist(command):
  flags = dict(word[2:].split("=", 1) for word in shlex.split(command)[3:])
  name, _, argument = flags.pop("config").partition(":")
  spec = importlib.util.spec_from_file_location("config", ROOT / name)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(*filter(None, [argument]))
  assert flags.pop("mode", "train") in (
      "train", "eval", "predict", "export"
  )
  for field, value in flags.items():
    prefix, _, path = field.partition(".")
    assert prefix == "config"
    *sections, last = path.split(".")
    section = config
    for part in sections:
      section = section[part]
    section[last] = type(section[last])(value)
  config_checks.resolve(config)


def test_the_code_runs_as_written():
  first, second = blocks("python")
  images = np.stack([photo(32, 48, seed) for seed in range(2)])
  exec(first, {"images": images})
  names = {}
  exec(second, names)
  cipher = encrypt(names["mine"], fresh_keys(2), images)
  assert (cipher != images).any()
  np.testing.assert_array_equal(
      canonical(names["mine"], cipher), canonical(names["mine"], images)
  )


def test_pictures_that_the_readme_shows_exist():
  shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
  assert shown and all((ROOT / path).is_file() for path in shown)
