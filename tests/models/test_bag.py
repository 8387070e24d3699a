"""Logits of a bag of blocks, for a client that hides the layout."""

import jax
import numpy as np
import pytest

from ppseg_jax.encryption import fresh_keys, layout
from ppseg_jax.encryption.probe import block_order
from ppseg_jax.encryption.schemes import hide_layout
from ppseg_jax.errors import UserError
from ppseg_jax.models import bag
from tests.helpers import make_setr
from tests.models.helpers import BLOCK, TOLERANCE, make, picture, run, under

block_logits = jax.jit(bag.block_logits, static_argnums=0)


@pytest.mark.parametrize("bands, fields", [
    (0, {"pos_embed": "none"}), (2, {"pos_region": (2, 0)}),
])
def test_with_hidden_layout_the_client_gets_the_map_it_would_have_got(
    bands, fields
):
  model, variables = make(form="blockwise", **fields)
  hidden = hide_layout("blockwise", bands)
  for seed, key in enumerate(fresh_keys(5)):
    image = picture(48, 64, seed)
    seen = under("blockwise", key, image)
    cipher = under(hidden, key, image)
    assert (cipher != seen).mean() > 0.5
    logits = block_logits(model, variables, cipher)
    assert logits.shape == (1, 48, 19)
    order = block_order(hidden, key, 48, 64, BLOCK)
    in_place = block_logits(model, variables, seen)
    np.testing.assert_array_equal(logits[0], in_place[0][order])  # to the bit

    got = layout.assemble(logits[0], hidden, key, 48, 64, BLOCK)
    plain = layout.assemble(in_place[0], "blockwise", key, 48, 64, BLOCK)
    np.testing.assert_array_equal(got, plain)
    assert got.shape == (48, 64, 19)
    assert len(np.unique(got.argmax(-1))) >= 3
    # The model itself sums in the order of the places.
    np.testing.assert_allclose(
        got, run(model, variables, seen)[0], atol=TOLERANCE
    )


def test_blocks_that_are_equal_have_equal_logits_in_any_order():
  model, variables = make(form="blockwise", pos_embed="none")
  image = np.zeros((1, 48, 64, 3), np.uint8)
  image[:, :24] = picture(24, 64)
  one = block_logits(model, variables, image)[0]
  two = block_logits(model, variables, image[:, ::-1])[0]
  np.testing.assert_array_equal(
      one.reshape(6, 8, 19), two.reshape(6, 8, 19)[::-1]
  )


def test_models_that_need_the_layout_are_refused():
  image = picture(48, 64)[None]
  with pytest.raises(UserError, match="pos_embed=none"):
    bag.block_logits(*make(), image)
  with pytest.raises(UserError, match="naive"):
    model, variables = make(decoder="pup", norm="group", pos_embed="none")
    bag.block_logits(model, variables, image)
  model = make_setr("blockwise", 16, 8, (3, 4), pos_embed="none")
  with pytest.raises(UserError, match="block = patch"):
    bag.block_logits(model, {}, image)
