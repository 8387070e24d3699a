"""Keys are too many to be tried, and the attack says how many."""

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts.scores import ssim
from tests.attacks.helpers import SMALL, hidden, know


def test_brute_force_says_how_hopeless_it_is(scene):
  cipher = hidden("independent", scene)
  found = ATTACKS["brute_force"](know("independent", cipher), 0, SMALL)
  assert found.notes["key_bits"] == 128
  assert found.notes["keys_per_second"] > 0
  assert found.notes["log10_years"] > 15
  assert ssim(scene, found.images[0]) < 0.8
