"""Models adapted to a key that all images share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.encryption import (
    BlockScramble,
    NegativePositive,
    PixelShuffle,
    Scheme,
    key_from_seed,
)
from ppseg_jax.encryption.probe import block_order, signed_permutation
from ppseg_jax.errors import UserError
from ppseg_jax.models.adapt import (
    adapt_variables,
    move_kernel,
    move_positions,
)
from tests.models.helpers import BLOCK, TOLERANCE, make, picture, run, under

VALUES = PixelShuffle(unit="value", scope="image")
SIGNS = NegativePositive(unit="value", scope="image")


def scheme_of(*ops):
  return Scheme(name="test", ops=ops, leaks="", source="")


SHARED = {
    "values": scheme_of(VALUES),
    "signs": scheme_of(SIGNS),
    "channels": scheme_of(PixelShuffle(unit="channel", scope="image"), SIGNS),
}
SCRAMBLED = {
    "blocks": scheme_of(BlockScramble()),
    "all": scheme_of(BlockScramble(), SIGNS, VALUES),
}


def token_logits(model, variables, images):
  """Logits of each patch, [N, classes], of one image."""
  return np.asarray(run(model, variables, images, False)).reshape(-1, 19)


def assert_unlike(wrong, right):
  """Most labels differ, and logits by more than they do between places."""
  assert (wrong.argmax(-1) != right.argmax(-1)).mean() > 0.5
  spread = right.std(tuple(range(right.ndim - 1))).mean()
  assert np.abs(wrong - right).mean() > 0.7 * spread


@pytest.mark.parametrize("scheme", SHARED.values(), ids=SHARED)
def test_logits_under_the_key_are_those_of_plain_images(scheme):
  model, variables = make()
  key = key_from_seed(3)
  adapted = adapt_variables(variables, scheme, key, BLOCK)
  for height, width in ((48, 64), (32, 40)):  # the second resizes positions
    image = picture(height, width, 1)
    plain = run(model, variables, image[None])
    cipher = under(scheme, key, image)
    assert (cipher[0] != image).mean() > 0.4
    logits = run(model, adapted, cipher)
    assert np.std(plain) > 0.1  # the logits are not all the bias
    np.testing.assert_allclose(logits, plain, atol=TOLERANCE)


@pytest.mark.parametrize("scheme", SHARED.values(), ids=SHARED)
def test_under_a_wrong_key_or_on_plain_images_the_model_collapses(scheme):
  model, variables = make()
  adapted = adapt_variables(variables, scheme, key_from_seed(3), BLOCK)
  image = picture(48, 64, 1)
  plain = np.asarray(run(model, variables, image[None]))
  for wrong in (under(scheme, key_from_seed(4), image), image[None]):
    logits = np.asarray(run(model, adapted, wrong))
    assert_unlike(logits, plain)


@pytest.mark.parametrize("scheme", SCRAMBLED.values(), ids=SCRAMBLED)
@pytest.mark.parametrize("grid", [(6, 8), (4, 5)])
def test_with_block_scrambling_each_block_keeps_its_logits(scheme, grid):
  model, variables = make(grid)
  height, width = grid[0] * BLOCK, grid[1] * BLOCK
  key = key_from_seed(5)
  adapted = adapt_variables(variables, scheme, key, BLOCK)
  image = picture(height, width, 2)
  plain = token_logits(model, variables, image[None])
  logits = token_logits(model, adapted, under(scheme, key, image))
  order = block_order(scheme, key, height, width, BLOCK)
  assert (order != np.arange(len(order))).mean() > 0.5
  np.testing.assert_allclose(logits, plain[order], atol=TOLERANCE)
  other = under(scheme, key_from_seed(6), image)
  wrong = token_logits(model, adapted, other)
  assert_unlike(wrong, plain[order])


def test_another_grid_than_the_models_moves_resized_positions():
  scheme, key, grid = SCRAMBLED["all"], key_from_seed(5), (4, 5)
  model, variables = make()
  adapted = adapt_variables(variables, scheme, key, BLOCK, grid)
  image = picture(32, 40, 2)
  plain = token_logits(model, variables, image[None])
  cipher = under(scheme, key, image)
  encoder = model.encoder.clone(grid=grid)
  logits = token_logits(model.clone(encoder=encoder), adapted, cipher)
  order = block_order(scheme, key, 32, 40, BLOCK)
  np.testing.assert_allclose(logits, plain[order], atol=TOLERANCE)


def test_all_but_embedding_and_positions_are_passed_on():
  _, variables = make()
  adapted = adapt_variables(
      variables, SCRAMBLED["all"], key_from_seed(5), BLOCK
  )
  changed = {
      jax.tree_util.keystr(path)
      for (path, one), two in zip(
          jax.tree_util.tree_leaves_with_path(variables),
          jax.tree.leaves(adapted), strict=True,
      )
      if not np.array_equal(one, two)
  }
  assert changed == {
      "['params']['encoder']['embed']['linear']['kernel']",
      "['params']['encoder']['pos_embed']",
  }


def test_moving_kernel_and_positions_can_be_jitted():
  scheme, key = SCRAMBLED["all"], key_from_seed(5)
  _, variables = make()
  cipher = signed_permutation(scheme, key, 48, 64, BLOCK)
  encoder = variables["params"]["encoder"]
  kernel = encoder["embed"]["linear"]["kernel"]
  adapted = adapt_variables(variables, scheme, key, BLOCK)["params"]["encoder"]
  np.testing.assert_array_equal(
      jax.jit(lambda x: move_kernel(x, cipher))(kernel),
      adapted["embed"]["linear"]["kernel"],
  )
  np.testing.assert_array_equal(
      jax.jit(lambda x: move_positions(x, cipher, (6, 8)))(
          encoder["pos_embed"]
      ),
      adapted["pos_embed"],
  )


@pytest.mark.parametrize("scheme", [
    "blockwise", "blockwise_value",
    scheme_of(VALUES, PixelShuffle(unit="pixel", scope="block")),
    scheme_of(NegativePositive(unit="block", scope="block")),
])
def test_schemes_that_are_not_of_image_scope_are_refused(scheme):
  _, variables = make()
  with pytest.raises(UserError, match="scope 'image'"):
    adapt_variables(variables, scheme, key_from_seed(1), BLOCK)


def test_a_scheme_that_is_linear_only_on_the_index_images_is_refused():
  """The second probe: values above 127 never occur in the first."""
  class Trap:
    kind = 99

    def encrypt(self, stream, blocks, grid, top=255):
      return jnp.where((blocks == 200) | (blocks == 201), blocks ^ 1, blocks)

    decrypt = encrypt

  _, variables = make()
  with pytest.raises(UserError, match="no model can be adapted"):
    adapt_variables(variables, scheme_of(Trap()), key_from_seed(1), BLOCK)


def test_wrong_variables_and_keys_get_one_clear_sentence():
  _, variables = make()
  key = key_from_seed(1)
  with pytest.raises(UserError, match="form='plain'"):
    adapt_variables({"params": {}}, SHARED["values"], key, BLOCK)
  with pytest.raises(UserError, match="block=16"):
    adapt_variables(variables, SHARED["values"], key, 16)
  with pytest.raises(UserError, match="one key is needed"):
    adapt_variables(variables, SHARED["values"], key[None], BLOCK)
  with pytest.raises(UserError, match="outside jit"):
    jax.jit(
        lambda key: adapt_variables(variables, SHARED["values"], key, BLOCK)
    )(key)
  _, spatial = make(decoder="pup", norm="group")
  with pytest.raises(UserError, match="Naive"):
    adapt_variables(spatial, SCRAMBLED["all"], key, BLOCK)
