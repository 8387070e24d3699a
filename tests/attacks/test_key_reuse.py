"""Several pictures under one key give away where values went."""

import numpy as np
import pytest

from ppseg_jax.attacks import ATTACKS
from ppseg_jax.attacks.parts.scores import ssim
from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.errors import UserError
from tests.attacks.helpers import BLOCK, SMALL, know
from tests.helpers import photo


def test_more_forms_under_one_key_open_more_of_the_picture():
  forms = np.stack([photo(32, 48, seed) for seed in range(40)])
  blocks = split(forms, BLOCK).reshape(40, 24, BLOCK**2, 3)
  order = np.random.default_rng(0).random(blocks.shape[1:]).argsort(1)
  mixed = np.take_along_axis(blocks, order[None], 2)
  ciphers = join(mixed.reshape(40, 24, BLOCK, BLOCK, 3), (4, 6))

  def opened(count):
    known = know("blockwise", ciphers[0], forms=ciphers[None, 1:count])
    found = ATTACKS["key_reuse"](known, 0, SMALL).images[0]
    sorted_ = [np.sort(split(x[None], BLOCK).reshape(24, -1, 3), 1)
               for x in (found, forms[0])]
    np.testing.assert_array_equal(*sorted_)  # no value is made up
    return ssim(forms[0], found)

  assert opened(40) > opened(4) + 0.1
  assert opened(40) > 0.7


@pytest.mark.parametrize("scheme, said", [
    ("blockwise_q4", "no order inside its blocks"),
    ("blockwise_hidden", "not at their places"),
    ("independent", "one ciphertext is enough"),
    ("blockwise_negative", "unchanged values"),
])
def test_schemes_that_it_does_not_open_are_refused(scheme, said):
  image = photo(32, 48)
  with pytest.raises(UserError, match=said):
    ATTACKS["key_reuse"](know(scheme, image, forms=image[None, None]), 0, SMALL)
