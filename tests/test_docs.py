"""README and docs are true: their commands, code, links and pictures."""

import ast
import configparser
import importlib.util
import json
import re
import shlex
import types
from pathlib import Path

import ml_collections
import numpy as np
import pytest
from PIL import Image

from ppseg_jax import config as config_checks
from ppseg_jax import fields
from ppseg_jax.attacks import readers, targets
from ppseg_jax.client import __main__ as client
from ppseg_jax.encryption import canonical, encrypt, fresh_keys, get_scheme
from ppseg_jax.encryption.permutations import position_bits, tie_bits
from ppseg_jax.experiments import __main__ as experiments
from ppseg_jax.experiments import runner, suite
from ppseg_jax.server import __main__ as server
from tests.client import fake_server
from tests.helpers import ROOT, photo, write_camvid

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands_of(page: Path) -> list[list[str]]:
  """The words of each command of a page, in blocks and in running text."""
  text = page.read_text()
  lines = []
  for block in re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.DOTALL):
    lines += block.replace("\\\n", " ").splitlines()
  prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
  lines += re.findall(r"`(python -m [^`]+)`", prose)
  return [
      shlex.split(command, comments=True)
      for line in lines if line.strip() and not line.startswith("#")
      for command in line.split(" && ")
  ]


COMMANDS = {page: commands_of(page) for page in PAGES}
CLIENT_COMMANDS = [
    words for words in COMMANDS[ROOT / "docs" / "client.md"]
    if words[2] == "ppseg_jax.client"
]
EVERY = [
    pytest.param(words, id=f"{page.stem}: {' '.join(words)}")
    for page, found in COMMANDS.items() for words in found
    if words not in CLIENT_COMMANDS
]


def loaded(flags: dict[str, str]) -> ml_collections.ConfigDict:
  """The config that flags name, with their fields set; takes these flags out.

  A value is read as the field's own kind.
  """
  name, _, argument = flags.pop("config").partition(":")
  spec = importlib.util.spec_from_file_location("config", ROOT / name)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(*filter(None, [argument]))
  for flag in [flag for flag in flags if flag.startswith("config.")]:
    *sections, last = flag.split(".")[1:]
    section = config
    for part in sections:
      section = section[part]
    old, text = section[last], flags.pop(flag)
    if isinstance(old, tuple):
      word = re.fullmatch(r"[a-z_]+", text)
      section[last] = (text,) if word else ast.literal_eval(text)
    elif isinstance(old, bool):
      section[last] = {"True": True, "False": False}[text]
    else:
      section[last] = type(old)(text)
  return config


def flags_of(words: list[str]) -> dict[str, str]:
  return dict(word.removeprefix("--").split("=", 1) for word in words)


def check_main(words: list[str]) -> None:
  flags = flags_of(words)
  mode = flags.pop("mode", "train")
  assert mode in ("train", "eval", "predict", "export", "refine", "verify")
  flags.pop("workdir", None)
  if mode != "verify":  # which reads the workdir's own config
    config_checks.resolve(loaded(flags))
  assert not flags


def check_attacks(words: list[str]) -> None:
  flags = flags_of(words)
  config = loaded(flags)
  fields.check(config, fields.ATTACKS)
  assert all(targets.get(name) for name in config.schemes)
  assert flags.keys() <= {"workdir"}


def check_client(words: list[str]) -> None:
  """Those that the test of the client's page does not run."""
  if words[0] in ("segment", "show"):
    client.parser().parse_args(words)
    return
  verb, source, out, *rest = words
  flags = flags_of(rest)
  assert verb == "encrypt" and get_scheme(flags.get("scheme", "blockwise")).ops
  assert flags.keys() <= {"scheme", "keys", "block", "level", "epsilon",
                          "pixels", "groups"}


def check_data(words: list[str]) -> None:
  verb, *flags = words
  if verb == "init":  # run by another test, with what it writes
    assert len(flags) == 1
    return
  assert verb in ("check", "show", "convert", "export")
  flags = [flag for flag in flags if not flag.startswith("--panel=")]
  if verb in ("convert", "export"):
    assert not flags.pop().startswith("-")  # the folder
    flags = [flag for flag in flags if not flag.startswith("--level=")]
  check_main(flags)


def check_experiments(words: list[str]) -> None:
  arguments = experiments.parse(words)
  runs = suite.load(arguments.suite)
  jobs = suite.jobs(runs, Path("W"), data_dir=arguments.data_dir)
  only = list(filter(None, arguments.only.split(",")))
  chosen, _ = runner.select(jobs, only)
  assert chosen and (not only or len(chosen) < len(jobs))


def check_frontier(words: list[str]) -> None:
  named = [word[2:].split("=", 1) for word in words]
  suites = [value for name, value in named if name == "suite"]
  assert suites and all(map(suite.load, suites))
  assert [name for name, _ in named].count("records") == len(suites)
  assert {name for name, _ in named} == {"suite", "records", "attacks", "out"}


def check_challenge(words: list[str]) -> None:
  verb, *rest = words
  assert flags_of(rest).keys() == {
      "make": {"images", "out"}, "score": {"challenge", "submission"}
  }[verb]


def check_config(words: list[str]) -> None:
  flags = flags_of(words)
  config_checks.resolve(loaded(flags))
  assert flags.keys() <= {"workdir", "index", "out"}


def check_protected(words: list[str]) -> None:
  assert flags_of(words).keys() == {"workdir", "classes", "json"}


def check_pytest(words: list[str]) -> None:
  assert words in (["-n", "auto"], ["-m", "parity"], ["-m", "distributed"],
                   ["-m", "slow"])


CHECKS = {
    "ppseg_jax.main": check_main,
    "ppseg_jax.attacks": check_attacks,
    "ppseg_jax.attacks.challenge": check_challenge,
    "ppseg_jax.attacks.readers": readers.parse,
    "ppseg_jax.client": check_client,
    "ppseg_jax.data": check_data,
    "ppseg_jax.experiments": check_experiments,
    "ppseg_jax.experiments.frontier": check_frontier,
    "ppseg_jax.server": server.read,
    "benchmarks.colour_baseline": check_config,
    "benchmarks.protected": check_protected,
    "benchmarks.picture": check_config,
    "benchmarks.train_share": check_config,
    "pytest": check_pytest,
}


@pytest.mark.parametrize("words", EVERY)
def test_every_command_names_what_there_is(words, monkeypatch):
  monkeypatch.chdir(ROOT)
  match words:
    case ["pip", "install", *_, what]:
      setup = configparser.ConfigParser()
      setup.read("setup.cfg")
      extras = re.fullmatch(r"(?:\.|ppseg_jax)(?:\[([\w,]+)\])?", what)[1]
      named = set(extras.split(",")) if extras else set()
      assert named <= setup["options.extras_require"].keys()
    case ["sbatch", array, "launch/slurm_encrypt.sh" as script, _, _, _, *rest]:
      assert array.startswith("--array=1-") and Path(script).is_file()
      check_client(["encrypt", "IN_DIR", "OUT_DIR", *rest])
    case [*_] if "launch/local.sh" in words:
      at = words.index("launch/local.sh")
      assert all(re.match(r"[A-Z_]+=", each) for each in words[:at])
      count, dashes, *rest = words[at + 1 :]
      assert count.isdigit() and dashes == "--" and Path(words[at]).is_file()
      check_main(rest)
    case ["taskset", "-c", _, "python", "-m", "benchmarks.serving", *rest]:
      source = Path("benchmarks/serving.py").read_text()
      assert all(f'"--{flag}"' in source for flag in flags_of(rest))
    case ["benchmarks/gpu.sh" as script, out, *rest]:
      assert Path(script).is_file() and not out.startswith("-")
      assert all(re.match("--camvid=.|--small$", each) for each in rest)
    case ["kubectl", "apply", "-f", file]:
      assert Path(file).is_file()
    case ["sbatch", array, script, *rest]:
      assert array.startswith("--array=1-") and Path(script).is_file()
      check_experiments(rest)
    case ["python", "-m", module, *rest]:
      spec = importlib.util.find_spec(module)
      if spec.submodule_search_locations:  # a package
        spec = importlib.util.find_spec(f"{module}.__main__")
      assert spec
      if module in CHECKS:
        CHECKS[module](rest)
      else:
        source = Path(spec.origin).read_text()
        assert module.startswith("benchmarks.")
        for flag in flags_of(rest):
          assert f'"--{flag}"' in source
    case _:
      raise AssertionError(f"no test knows what to do with {words}")


def test_the_clients_commands_work_in_the_order_they_are_shown(
    tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  monkeypatch.chdir(tmp_path)
  for folder in ("home", "photos"):
    (tmp_path / folder).mkdir()
  image = photo(32, 48)
  Image.fromarray(image).save(tmp_path / "photos" / "one.png")
  write_camvid(tmp_path / "mine", 1, 32, 48)  # ids are 0 to 11
  (tmp_path / "mine" / "classes.json").write_text(json.dumps([
      {"id": i, "name": f"class_{i}", "colour": [i, 0, 0]} for i in range(12)
  ]))
  page = (ROOT / "docs" / "client.md").read_text()
  (boxes,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
  (tmp_path / "boxes.json").write_text(boxes)
  assert {words[3] for words in CLIENT_COMMANDS} == {
      "show", "encrypt", "decrypt", "segment"
  }
  with fake_server.running() as server:
    for words in CLIENT_COMMANDS:
      words = [word.replace("http://127.0.0.1:8000", server.url)
               for word in words[3:]]
      assert client.main(words) == 0, (words, capsys.readouterr().err)
  for folder in ("restored", "unprotected"):
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / folder / "one.png")), image
    )


def test_the_code_on_encryption_runs_as_written():
  page = (ROOT / "docs" / "encryption.md").read_text()
  first, second, third = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  images = np.stack([photo(32, 48, seed) for seed in range(2)])
  exec(first, {"images": images})
  names = {}
  exec(second, names)
  cipher = encrypt(names["mine"], fresh_keys(2), images)
  assert (cipher != images).any()
  np.testing.assert_array_equal(
      canonical(names["mine"], cipher), canonical(names["mine"], images)
  )
  exec(third, names)  # what it defines takes long, and is tested elsewhere
  assert callable(names["test_my_scheme"])


def test_the_code_on_levels_runs_as_written():
  page = (ROOT / "docs" / "levels.md").read_text()
  names = {}
  for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
    exec(code, names)
  assert names["noisy"].shape == names["images"][0].shape


@pytest.mark.parametrize("side, each, height, width, whole", [
    (8, 32, 96, 128, 22), (16, 26, 1024, 2048, 11),
])
def test_the_distance_of_a_pictures_permutations_is_as_stated(
    side, each, height, width, whole
):
  """For blockwise: docs/security.md gives the exponents."""
  n = side**2
  distance = n * (n - 1) / 2 / 2 ** (33 - position_bits(n) + tie_bits(n))
  assert distance <= 2**-each
  assert 3 * (height // side) * (width // side) * distance <= 2**-whole
  text = " ".join((ROOT / "docs" / "security.md").read_text().split())
  assert f"2^-{each}" in text and f"2^-{whole}" in text


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem
)
def test_benchmarks_call_what_the_package_has(path):
  """They take too long to be run here; what they name must be there."""
  tree, modules = ast.parse(path.read_text()), {}
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and node.module.startswith("ppseg_jax"):
      for name in node.names:
        scope = {}
        exec(f"from {node.module} import {name.name} as found", scope)
        if isinstance(scope["found"], types.ModuleType):
          modules[name.asname or name.name] = scope["found"]
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
      module = modules.get(node.value.id)
      assert module is None or hasattr(module, node.attr), (
          f"{path.name}:{node.lineno} {node.value.id}.{node.attr}"
      )


def anchors(page: Path) -> set[str]:
  heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
  return {
      re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads
  }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_lead_somewhere(page):
  for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
    path, _, anchor = target.partition("#")
    found = page.parent / path if path else page
    assert found.is_file(), target
    assert not anchor or anchor in anchors(found), target


def test_every_page_is_in_the_table_of_contents():
  contents = (ROOT / "docs" / "README.md").read_text()
  for page in PAGES[1:]:
    assert page.name == "README.md" or f"({page.name}" in contents


def test_no_page_says_more_than_holds():
  """Sentences that were once here, and are not true as they stand."""
  for page in PAGES:
    text = " ".join(page.read_text().split())
    for claim in ("nobody but their owner", "no place finer", "reads little",
                  "no attack of ours", "../shared"):
      assert claim not in text, page
