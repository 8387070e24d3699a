"""The README is true: its commands, its code and its pictures."""

import importlib.util
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from ppseg_jax import config as config_checks
from ppseg_jax.client.__main__ import main as client
from ppseg_jax.encryption import canonical, encrypt, fresh_keys
from ppseg_jax.experiments import __main__ as experiments
from ppseg_jax.experiments import runner, suite
from tests.helpers import ROOT, photo

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(
    r"python -m ppseg_jax\.main .*", README.replace("\\\n", " ")
)
CLIENT_COMMANDS = re.findall(r"python -m ppseg_jax\.client .*", README)
SUITE_COMMANDS = re.findall(
    r"python -m ppseg_jax\.experiments .*", README.replace("\\\n", " ")
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
  if flags.get("mode") == "verify":  # the workdir's own config
    assert set(flags) == {"mode", "workdir"}
    return
  name, _, argument = flags.pop("config").partition(":")
  spec = importlib.util.spec_from_file_location("config", ROOT / name)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(*filter(None, [argument]))
  assert flags.pop("mode", "train") in (
      "train", "eval", "predict", "export", "refine"
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


def test_the_clients_commands_work_in_the_order_they_are_shown(
    tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  monkeypatch.chdir(tmp_path)
  for folder in ("home", "photos"):
    (tmp_path / folder).mkdir()
  image = photo(32, 48)
  Image.fromarray(image).save(tmp_path / "photos" / "one.png")
  assert {shlex.split(command)[3] for command in CLIENT_COMMANDS} == {
      "show", "encrypt", "decrypt"
  }
  for command in CLIENT_COMMANDS:
    code = client(shlex.split(command)[3:])
    assert code == 0, (command, capsys.readouterr().err)
  np.testing.assert_array_equal(
      np.asarray(Image.open(tmp_path / "restored" / "one.png")), image
  )


@pytest.mark.parametrize("command", SUITE_COMMANDS)
def test_every_suite_command_names_a_suite_and_runs_that_exist(
    command, tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  arguments = experiments.parse(shlex.split(command)[3:])
  runs = suite.load(arguments.suite)
  jobs = suite.jobs(runs, tmp_path, data_dir=arguments.data_dir)
  chosen, _ = runner.select(jobs, list(filter(None,
                                              arguments.only.split(","))))
  assert chosen and (not arguments.only or len(chosen) < len(jobs))


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
