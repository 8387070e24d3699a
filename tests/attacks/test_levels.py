"""Attacks on images of which a client let out a level alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts.invariants import quantiles
from ppseg_jax.attacks.parts.knowledge import whole_squares
from ppseg_jax.attacks.parts.levels import interpolate
from ppseg_jax.attacks.parts.scores import edge
from ppseg_jax.errors import UserError
from tests.attacks.helpers import SMALL, hidden, know
from tests.helpers import photo


@given(st.lists(st.integers(0, 255), min_size=2, max_size=6),
       st.integers(1, 9))
def test_interpolated_values_are_sorted_and_nearly_keep_the_means(means, each):
  means = np.sort(np.float32(means))
  values = interpolate(np.repeat(means, each)[:, None], len(means))[:, 0]
  assert len(values) == len(means) * each and (np.diff(values) >= 0).all()
  assert values.min() >= 0 and values.max() <= 255
  # What is cut off at 0 and 255, or changes places, is within the end groups.
  inner = values.reshape(len(means), each).mean(1) - means
  assert abs(inner).max() <= max(np.diff(means).max(), 1)
  line = interpolate(np.repeat([50, 60, 70], each)[:, None], 3)[:, 0]
  np.testing.assert_allclose(line, 45 + 10 * (np.arange(3 * each) + 0.5) / each,
                             atol=1e-3)


@pytest.mark.parametrize("level", ["q4b5", "m2q4", "value_q12"])
def test_ranks_of_a_level_show_edges_that_the_mosaic_has_not(level, scene):
  name = f"blockwise_{level}"
  scene = scene[:64, :64]
  known = know(name, hidden(name, scene))
  mosaic, ranked = (
      ATTACKS[attack](known, 0, SMALL).images[0]
      for attack in ("mosaic", "rank")
  )
  assert edge(scene, ranked) > edge(scene, mosaic) + 0.03


@pytest.mark.parametrize("scheme", ["blockwise_q4b5", "blockwise_m2q4"])
def test_an_attacker_makes_the_level_of_its_own_images_as_a_client_does(scheme):
  image = photo(32, 48)
  cipher = hidden(scheme, image)
  known = whole_squares(know(scheme, cipher))
  assert known.block == (16 if "m2" in scheme else 8)
  np.testing.assert_array_equal(
      *(quantiles(known, x[None], 16) for x in (image, cipher))
  )


@pytest.mark.parametrize("attack, scheme, why", [
    ("rank", "blockwise_q1", "one mean is left"),
    ("brute_force", "blockwise_q4", "no key brings back"),
    ("known_plaintext", "blockwise_m2q4", "tells nothing of the picture"),
    ("correlation", "blockwise_value_q12", "positions tell nothing"),
    ("jigsaw", "blockwise_q4", "blocks are at their places"),
    ("features", "blockwise_q4", "negates no values"),
    ("inversion", "blockwise_q4", "has a canonical form"),
    ("layout", "blockwise_q4", "blocks are at their places"),
    ("chroma", "blockwise_q4", "channels are not mixed"),
    ("chroma", "blockwise_value_hidden", "not at their places"),
])
def test_an_attack_says_why_a_level_is_not_for_it(attack, scheme, why):
  image = photo(32, 48)
  known = know(scheme, image, pair=(image, image), others=image[None])
  with pytest.raises(UserError, match=f"'{scheme}'.*{why}"):
    ATTACKS[attack](known, 0, SMALL)
