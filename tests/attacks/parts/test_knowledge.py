"""Attacks are told what they declare, and say what they lack."""

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ppseg_jax import attacks
from ppseg_jax.attacks import ATTACKS, Budget, Outcome, targets
from ppseg_jax.attacks.parts.knowledge import declare
from ppseg_jax.encryption import (
    BlockScramble,
    NegativePositive,
    PixelShuffle,
    Scheme,
)
from ppseg_jax.errors import UserError
from tests.attacks.helpers import SMALL, know
from tests.helpers import photo

FOLDER = Path(attacks.__file__).parent


@pytest.mark.parametrize("attack, scheme, part", [
    ("brute_force", "plain", "there is no key"),
    ("known_plaintext", "independent", "needs Knowledge.pair"),
    ("correlation", "scramble", "it shuffles no values"),
    ("jigsaw", "independent", "blocks are at their places"),
    ("jigsaw", "blockwise_scrambled", "leaves no borders to fit"),
    ("jigsaw", Scheme("mine", (BlockScramble(), NegativePositive(
        unit="value", scope="block")), "", ""), "of whole blocks"),
    ("features", "independent", "it negates no values"),
    ("mosaic", "scramble", "not at their places"),
    ("rank", "blockwise_scrambled", "not at their places"),
    ("rank", "blockwise_negative", "one shuffle of unchanged values"),
    ("rank", "independent", "see 'correlation'"),
    ("rank", Scheme("mine", (PixelShuffle(unit="value", scope="block",
                                          cell=4),), "", ""), "whole block"),
    ("likeliest", "blockwise", "needs Knowledge.others"),
    ("inversion", "independent", "needs Knowledge.others"),
    ("layout", "scramble", "needs Knowledge.others"),
    ("label_map", "blockwise", "needs Knowledge.labels"),
])
def test_an_attack_says_what_it_lacks(attack, scheme, part):
  with pytest.raises(UserError, match=part):
    ATTACKS[attack](know(scheme, photo(32, 32)), 0, SMALL)


def test_what_cannot_be_known_is_refused():
  with pytest.raises(UserError, match="uint8"):
    know("blockwise", np.zeros((32, 32, 3)))
  with pytest.raises(UserError, match="one size"):
    know("blockwise", photo(32, 32), others=photo(48, 32)[None])
  with pytest.raises(UserError, match=r"budget\.steps=0"):
    Budget(steps=0)
  with pytest.raises(UserError, match="'rot13' is none of"):
    targets.get("rot13")


def test_an_attack_is_told_what_it_declares_and_nothing_else():
  @declare(needs=("labels",), uses=("others",))
  def attack(knowledge, seed, budget):
    told = {x.name for x in dataclasses.fields(knowledge)
            if getattr(knowledge, x.name) is not None}
    return Outcome(knowledge.ciphertexts, dict.fromkeys(told, 1.0))

  image = photo(32, 32)
  always = {"ciphertexts", "scheme", "block", "classes", "groups", "noise"}
  given = {"labels": image[None, ..., 0], "pair": (image, image)}
  found = attack(know("blockwise", image, **given), 0, SMALL)
  assert set(found.notes) == always | {"labels"}
  given["others"] = image[None]
  found = attack(know("blockwise", image, **given), 0, SMALL)
  assert set(found.notes) == always | {"labels", "others"}
  assert attack.name == "test_knowledge"  # of the file
  with pytest.raises(TypeError, match="no optional field key"):
    declare(needs=("key",))


def test_an_attack_is_a_file_that_imports_no_other():
  files = {path.stem for path in FOLDER.glob("*.py")}
  others = {"__init__", "__main__", "suite", "several", "targets",
            "challenge", "recognition", "readers"}
  assert files - others == set(ATTACKS)
  for name in ATTACKS:
    assert ATTACKS[name].name == name
  for path in [FOLDER / f"{name}.py" for name in ATTACKS] + [
      *(FOLDER / "parts").glob("*.py")
  ]:
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ImportFrom) and node.module.startswith(
          "ppseg_jax.attacks"
      ):
        assert node.module.startswith("ppseg_jax.attacks.parts"), path


def test_every_attack_is_in_the_config_that_comes_along():
  from ppseg_jax.configs import attacks as config_file
  assert set(config_file.get_config().attacks) == set(ATTACKS)
