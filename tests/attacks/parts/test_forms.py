"""What may be done to a block is a group."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ppseg_jax.attacks.parts.forms import make_forms
from tests.helpers import photo

FORMS = make_forms(True, True, True)


@given(st.integers(0, 95), st.integers(0, 95))
def test_forms_of_a_block_are_a_group(one, two):
  block = photo(8, 8)[None]
  once = FORMS.apply(block)[one]
  twice = FORMS.apply(once)[two]
  np.testing.assert_array_equal(
      twice, FORMS.apply(block)[FORMS.after[two, one]]
  )
  np.testing.assert_array_equal(FORMS.apply(once)[FORMS.inverse[one]], block)
  np.testing.assert_array_equal(
      FORMS.turns[two] @ FORMS.turns[one], FORMS.turns[FORMS.after[two, one]]
  )
