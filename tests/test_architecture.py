"""The imports of the package keep to the list in docs/architecture.md."""

import ast
import re
from pathlib import Path

import pytest

from ppseg_jax.encryption import KEYED
from tests.helpers import ROOT

PACKAGE = "ppseg_jax"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
LAYERS = [
    line.split() for line in
    re.search(r"```layers\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def module_of(path: Path) -> str:
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_of(path): path for path in (ROOT / PACKAGE).rglob("*.py")
}


def imports_of(name: str) -> set[str]:
  """The modules of this package that a module imports, anywhere in it."""
  found = set()
  for node in ast.walk(ast.parse(MODULES[name].read_text())):
    if isinstance(node, ast.Import):
      found.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{name} imports relatively"
      found.update(f"{node.module}.{alias.name}" for alias in node.names)
  # Names that the package looks up when they are asked for.
  found = {f"{PACKAGE}.encryption.{KEYED[name]}" if (
      name := each.removeprefix(f"{PACKAGE}.encryption.")
  ) in KEYED else each for each in found}
  # `from a.b import c`: c may be a module, or a name in a.b.
  return {
      each if each in MODULES else each.rpartition(".")[0]
      for each in found if each.startswith(f"{PACKAGE}.")
  }


IMPORTS = {name: imports_of(name) for name in MODULES}


def unit_of(module: str) -> str:
  """What the list calls a module by."""
  if module.endswith(".__main__"):
    return "main"
  return (module.split(".") + [""])[1]


def reached(start: str) -> set[str]:
  """All modules that importing one imports."""
  seen, waiting = set(), [start]
  while waiting:
    name = waiting.pop()
    if name in IMPORTS and name not in seen:
      seen.add(name)
      waiting += IMPORTS[name]
      # Importing a.b runs a/__init__.py first.
      waiting.append(name.rpartition(".")[0])
  return seen


def test_every_module_has_one_place_in_the_list():
  named = [name for names in LAYERS for name in names]
  assert len(named) == len(set(named))
  assert {unit_of(name) for name in MODULES} - {""} <= set(named)


def test_modules_import_from_lines_above_their_own_only():
  against = {
      (name, other)
      for name, others in IMPORTS.items() for other in others
      if unit_of(other) and unit_of(name) and unit_of(name) != unit_of(other)
      and not LEVEL[unit_of(other)] < LEVEL[unit_of(name)]
  }
  assert not against


@pytest.mark.parametrize("package", ["client", "encryption"])
def test_what_encrypts_reaches_no_model(package):
  begin = f"{PACKAGE}.{package}"
  for name in MODULES:
    if name == begin or name.startswith(f"{begin}."):
      found = {unit_of(other) for other in reached(name)}
      assert not found & {"models", "runs", "train"}, name


# What takes a key, or makes one: of this package, and whoever uses it.
KEYS = {
    "ppseg_jax.encryption.cipher", "ppseg_jax.encryption.keys",
    "ppseg_jax.encryption.layout", "ppseg_jax.encryption.probe",
    "ppseg_jax.encryption.reference", "ppseg_jax.encryption.regions",
    "ppseg_jax.encryption.testing",
    "ppseg_jax.encryption.threefry", "ppseg_jax.models.adapt",
    "ppseg_jax.runs.keys", "ppseg_jax.evaluate",
}


def test_what_serves_reaches_nothing_that_takes_a_key():
  for name in MODULES:
    if name.startswith(f"{PACKAGE}.server"):
      found = reached(name)
      assert not found & KEYS, name
      assert not {unit_of(other) for other in found} & {"client", "attacks"}


def test_the_list_of_what_takes_a_key_is_whole():
  """Nor is anything else reached that names a key's words or its type."""
  words = re.compile(r"key_data|key_impl|prng_key|threefry4x32")
  takes = {
      name for name, path in MODULES.items() if words.search(path.read_text())
  }
  assert "ppseg_jax.encryption.cipher" in takes
  served = reached(f"{PACKAGE}.server.__main__")
  assert not takes & served


def test_the_test_itself_sees_imports():
  assert "ppseg_jax.encryption.ops" in IMPORTS["ppseg_jax.encryption"]
  assert "ppseg_jax.train" in reached("ppseg_jax.main")
  assert "ppseg_jax.encryption.cipher" in IMPORTS["ppseg_jax.evaluate"]
