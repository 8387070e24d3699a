"""The frame of the command lines: what ends how, and what outlives a call."""

import configparser
import errno
import logging
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from absl import logging as absl_logging
from ml_collections import ConfigDict

from ppseg_jax import command
from ppseg_jax.attacks import __main__ as attacks
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import frontier
from ppseg_jax.main import main
from ppseg_jax.runs import workdir
from tests.helpers import ROOT, call


def ended(body) -> subprocess.CompletedProcess:
  return call(lambda _: command.run(body))


def raising(error):
  def body():
    raise error
  return body


def test_exit_codes_and_what_is_said():
  assert ended(lambda: 1).returncode == 1
  done = ended(raising(UserError("two\nlines")))
  assert (done.returncode, done.stderr) == (2, "error: two lines\n")
  done = ended(raising(PermissionError(errno.EACCES, "denied", "/a/file")))
  assert done.returncode == 2 and "/a/file: denied" in done.stderr
  done = ended(raising(OSError(errno.EIO, "Input/output error")))
  assert done.returncode == 2 and "Input/output error" in done.stderr
  done = ended(raising(KeyboardInterrupt("saved at step 3")))
  assert (done.returncode, done.stderr) == (130, "saved at step 3\n")
  done = ended(lambda: signal.raise_signal(signal.SIGTERM))
  assert done.returncode == 143 and done.stderr.count("\n") == 1
  with pytest.raises(ZeroDivisionError):  # our mistake keeps its traceback
    ended(lambda: 1 // 0)


def chained(last, first):
  try:
    raise last from first
  except Exception as error:
    return error


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Quota exceeded", "/a/file"),
    chained(ValueError("cannot save"), OSError(errno.ENOSPC, "full")),
    chained(RuntimeError("cannot save"), ValueError(
        "RESOURCE_EXHAUSTED: writing: [OS error 28: ENOSPC No space left on"
        " device]")),
], ids=repr)
def test_a_full_disk_is_said_in_one_line(error):
  done = ended(raising(error))
  assert done.returncode == 2 and done.stderr.count("\n") == 1
  assert "no space is left on the disk" in done.stderr


def test_running_out_of_memory_names_the_fields_that_help():
  done = ended(lambda: jnp.zeros(2**46, jnp.uint8).sum().block_until_ready())
  assert done.returncode == 2 and done.stderr.count("\n") == 1
  for name in ("accumulate", "model.remat", "batch_size"):
    assert name in done.stderr
  other = jax.errors.JaxRuntimeError("INTERNAL: what nobody can mend")
  with pytest.raises(jax.errors.JaxRuntimeError):
    ended(raising(other))


def test_nothing_that_a_command_sets_outlives_it(tmp_path):
  def state():
    return (
        signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT),
        absl_logging.get_verbosity(), logging.getLogger("asyncio").level,
        sys.unraisablehook, dict(jax.config.values),
    )

  before = state()
  asked = ["--config=setr_plain.py", "--mode=eval", f"--workdir={tmp_path}"]
  for steps in (0, -1):  # each call has flags of its own
    done = call(main, *asked, f"--config.steps={steps}")
    assert done.returncode == 2 and f"steps={steps} must" in done.stderr
    assert state() == before
  done = call(main, *asked)  # no field is left from another call
  assert "holds no trained model" in done.stderr
  ended(lambda: signal.raise_signal(signal.SIGTERM))
  assert state() == before


@pytest.mark.parametrize("main, flag", [
    (main, "--mode"), (attacks.main, "--config"), (frontier.main, "--attacks"),
])
def test_help_is_shown_and_is_no_error(main, flag):
  done = call(main, "--help")
  assert done.returncode == 0 and flag in done.stdout and not done.stderr


def test_files_of_configs_are_found_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  ours = ROOT / "configs"
  for text in ("setr_enc.py", "configs/setr_enc.py"):
    for argument in ("", "camvid"):
      file, found = command.find(f"{text}:{argument}", "config")
      assert file.samefile(ours / "setr_enc.py") and found == argument
  for text in ("paper.py", "suites/paper.py", "configs/suites/paper.py"):
    file, _ = command.find(text, "suite", "suites")
    assert file.samefile(ours / "suites" / "paper.py")

  own = tmp_path / "home" / "setr_enc.py"  # a file that is there comes first
  own.parent.mkdir()
  shutil.copy(ours / "setr_enc.py", own)
  assert command.find("~/setr_enc.py", "config")[0] == own
  monkeypatch.chdir(own.parent)
  assert command.find("setr_enc.py", "config")[0].resolve() == own
  with pytest.raises(UserError, match=r"'/setr_enc\.py' does not exist"):
    command.find("/setr_enc.py", "config")
  with pytest.raises(UserError, match=r"knobs\.py, levels\.py, medical\.py"):
    command.find("nosuch.py:camvid", "suite", "suites")
  known = r"setr_bands\.py, setr_enc\.py, setr_hidden\.py, setr_home\.py"
  with pytest.raises(UserError, match=known):
    command.find("configs/none.py:mars", "config")


def test_a_home_folder_is_expanded_in_fields_that_are_paths(monkeypatch):
  monkeypatch.setenv("HOME", "/home/me")
  config = ConfigDict({"data": {"dir": "~/camvid", "name": "~"},
                       "start": {"workdir": ""}})
  assert command.expand(config).to_dict() == {
      "data": {"dir": "/home/me/camvid", "name": "~"},
      "start": {"workdir": ""},
  }
  given = command.parse(
      ["--config.data.dir=~/x", "--config", "attacks.py:camvid"], "", "",
      lambda values: None,
  )
  assert given.config.data.dir == "/home/me/x"
  assert given.name == "attacks-camvid"
  assert command.path("~/runs") == Path("/home/me/runs")
  assert command.path("~nobody_at_all/x") == Path("~nobody_at_all/x")


def test_a_config_of_ones_own_may_build_on_those_that_come_along(
    tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  Path("mine.py").write_text("""
from ppseg_jax.configs import setr_plain

def get_config(data="streets"):
  config = setr_plain.get_config(data)
  config.steps = 7
  return config
""")
  given = command.parse(["--config=mine.py:camvid"], "", "", lambda _: None)
  assert given.config.steps == 7 and given.config.data.name == "camvid"
  for text, said in (
      ("import nosuch", "nosuch"), ("def get_config(): return 1 / 0", "zero"),
      ("get_config = ", "syntax"), ("", "get_config"),
  ):
    Path("bad.py").write_text(text)
    with pytest.raises(UserError, match=said):
      command.parse(["--config=bad.py"], "", "", lambda _: None)


def test_the_package_list_names_every_folder_of_modules():
  """Else a wheel lacks it, as it once did all of the models."""
  setup = configparser.ConfigParser()
  setup.read(ROOT / "setup.cfg")
  named = setup["options"]["packages"].split()
  folders = {
      file.parent.relative_to(ROOT)
      for top in ("ppseg_jax", "configs") for file in
      (ROOT / top).rglob("*.py")
  }
  found = sorted(".".join(folder.parts) for folder in folders)
  assert sorted(
      name.removeprefix("ppseg_jax.") if "configs" in name else name
      for name in named
  ) == found
  assert all((ROOT / folder / "__init__.py").is_file() for folder in folders)


def test_a_revision_is_that_of_this_packages_own_repository(
    tmp_path, monkeypatch
):
  """Not that of a repository that it happens to be installed in."""
  def git(*words):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
                   cwd=tmp_path, check=True, capture_output=True)

  installed = tmp_path / "site-packages" / "workdir.py"
  installed.parent.mkdir()
  installed.touch()
  git("init")
  git("commit", "--allow-empty", "-m", "somebody else's")
  monkeypatch.setattr(workdir, "__file__", str(installed))
  assert workdir.versions()["git"] is None
  git("add", ".")
  git("commit", "-m", "ours")
  assert len(workdir.versions()["git"]) == 40
  installed.write_text("changed")
  assert workdir.versions()["git"].endswith("-dirty")


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="no shellcheck")
def test_shell_scripts_are_clean():
  scripts = [ROOT / ".ci" / "run", ROOT / "benchmarks" / "gpu.sh",
             *sorted((ROOT / "launch").glob("*.sh"))]
  done = subprocess.run(["shellcheck", *scripts], capture_output=True,
                        text=True)
  assert done.returncode == 0, done.stdout
