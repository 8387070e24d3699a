"""What can be learned of a scheme without a canonical form."""

import numpy as np
import pytest

from ppseg_jax.attacks import ATTACKS, Budget
from ppseg_jax.attacks.parts.scores import psnr
from ppseg_jax.errors import UserError
from tests.attacks.helpers import SMALL, hidden, know, street
from tests.helpers import photo


def test_inversion_refuses_what_has_a_canonical_form():
  with pytest.raises(UserError, match="canonical form"):
    ATTACKS["inversion"](
        know("blockwise", photo(32, 32), others=photo(32, 32)[None]), 0, SMALL
    )


def test_inversion_draws_a_picture_of_each_ciphertext_from_other_images():
  sky = np.stack([street(4, i)[0][:16, :16] for i in range(3)])
  known = know("independent", hidden("independent", sky[0]), others=sky)
  found = ATTACKS["inversion"](known, 0, Budget(steps=60)).images
  assert found.shape == (1, 16, 16, 3) and found.dtype == np.uint8
  assert psnr(sky[0], found[0]) > psnr(sky[0], np.full_like(sky[0], 127)) + 3
