"""The mean of the parts of a block is undone by what lies around."""

import numpy as np
import pytest

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts.scores import scores
from ppseg_jax.errors import UserError
from tests.attacks.helpers import SMALL, hidden, know


def test_unmixed_parts_are_nearer_than_the_mix_and_the_mosaic(scene, others):
  mixed = hidden("hao2025_mix", scene)
  known = know("hao2025_mix", mixed, others=others)
  found = ATTACKS["unmix"](known, 0, SMALL).images
  mosaic = ATTACKS["mosaic"](known, 0, SMALL).images
  got, seen, coarse = (
      scores(scene[None], x) for x in (found, mixed[None], mosaic)
  )
  for measure in ("ssim", "edge", "psnr"):
    assert got[measure] > max(seen[measure], coarse[measure])
  again = hidden("hao2025_mix", found[0]).astype(int)
  assert np.abs(again - mixed).mean() < 2  # it could have been mixed


@pytest.mark.parametrize("name", ["plain", "blockwise", "hao2025_mix_hidden"])
def test_what_does_more_or_else_than_mix_is_refused(scene, others, name):
  known = know(name, hidden(name, scene), others=others)
  with pytest.raises(UserError, match="does not mix sub-patches"):
    ATTACKS["unmix"](known, 0, SMALL)
