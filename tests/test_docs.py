"""The commands that the pages of docs/ show are ones that exist."""

import re
import shlex

import pytest

from ppseg_jax import command
from ppseg_jax import config as config_checks
from tests.helpers import ROOT

TEXT = "".join(
    (ROOT / "docs" / f"{name}.md").read_text() for name in ("metrics", "tfds")
)
COMMANDS = [
    found for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for found in re.findall(r"python -m ppseg_jax\..*",
                            block.replace("\\\n", " "))
]


@pytest.mark.parametrize("text", COMMANDS)
def test_every_command_names_a_config_and_fields_that_exist(text, monkeypatch):
  monkeypatch.chdir(ROOT)
  module, *words = shlex.split(text)[2:]
  assert module in ("ppseg_jax.main", "ppseg_jax.data")
  given = command.parse(
      [word for word in words if word.startswith("--config")], "", "",
      lambda values: None,
  )
  config_checks.resolve(given.config)
  others = [word.split("=")[0] for word in words
            if not word.startswith("--config")]
  allowed = {"ppseg_jax.main": {"--mode", "--workdir"},
             "ppseg_jax.data": {"convert", "check", "/data/small"}}[module]
  assert set(others) <= allowed
