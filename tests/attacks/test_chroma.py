"""Colours that were mixed are guessed from what lies around."""

import numpy as np
import pytest

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts.scores import psnr
from tests.attacks.helpers import SMALL, hidden, know
from tests.helpers import photo


def _tinted(seed: int) -> np.ndarray:
  """A picture the redder the brighter it is, uint8 [32, 48, 3]."""
  grey = photo(32, 48, seed).mean(2, keepdims=True)
  return np.concatenate([grey, 0.6 * grey + 30, 90 - 0.2 * grey], 2).astype(
      np.uint8
  )


@pytest.mark.parametrize("scheme, grey", [
    ("blockwise_value", "rank"), ("blockwise_value_q1", "mosaic"),
])
def test_guessed_colours_are_nearer_than_grey(scheme, grey):
  image, *others = (_tinted(seed) for seed in range(9))
  known = know(scheme, hidden(scheme, image), others=np.stack(others))
  grey = ATTACKS[grey](known, 0, SMALL).images[0]
  found = ATTACKS["chroma"](known, 0, SMALL).images[0]
  assert psnr(image, found) > psnr(image, grey) + 2
  assert grey.std(2).max() == 0
