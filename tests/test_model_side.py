"""Models adapted to a shared key, and the layout of an image hidden."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.encryption import (
    SCHEMES,
    BlockScramble,
    NegativePositive,
    PixelShuffle,
    Scheme,
    encrypt,
    fresh_keys,
    key_from_seed,
    layout,
)
from ppseg_jax.encryption.probe import block_order, signed_permutation
from ppseg_jax.encryption.schemes import hide_layout
from ppseg_jax.errors import UserError
from ppseg_jax.models import bag
from ppseg_jax.models.adapt import (
    adapt_variables,
    move_kernel,
    move_positions,
)
from ppseg_jax.models.setr import SETR

BLOCK = 8
TOLERANCE = 5e-5  # of logits of size 1: float32 sums in another order
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


@functools.cache
def make(grid=(6, 8), **fields):
  """A SETR with random values in every leaf, as if it had been trained."""
  fields = {"form": "plain"} | fields
  model = SETR(19, "demo", BLOCK, block=BLOCK, grid=grid, **fields)
  image = jax.ShapeDtypeStruct((1, grid[0] * 8, grid[1] * 8, 3), jnp.uint8)
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)
  rng = np.random.default_rng(0)

  def leaf(path, shape):
    name, shape = path[-1].key, shape.shape
    if name in ("scale", "var"):
      values = rng.uniform(0.5, 1.5, shape)
    elif name == "kernel":
      gain = 6 if path[-2].key == "linear" else 1.5
      values = rng.normal(0, gain * np.prod(shape[:-1]) ** -0.5, shape)
    else:
      values = rng.normal(0, 0.2, shape)
    return values.astype(np.float32)

  return model, jax.tree_util.tree_map_with_path(leaf, shapes)


@functools.partial(jax.jit, static_argnums=(0, 3))
def run(model, variables, images, upsample=True):
  return model.apply(variables, images, upsample=upsample)


block_logits = jax.jit(bag.block_logits, static_argnums=0)


def token_logits(model, variables, images):
  """Logits of each patch, [N, classes], of one image."""
  return np.asarray(run(model, variables, images, False)).reshape(-1, 19)


def picture(height, width, seed=0):
  """Coloured squares and strong noise: every block is unlike the others."""
  rng = np.random.default_rng(seed)
  squares = rng.integers(0, 256, (height // BLOCK, width // BLOCK, 3))
  noise = rng.normal(0, 60, (height, width, 3))
  image = squares.repeat(BLOCK, 0).repeat(BLOCK, 1) + noise
  return np.clip(image, 0, 255).astype(np.uint8)


def under(scheme, key, *images):
  keys = jnp.broadcast_to(key, (len(images),))
  return np.asarray(encrypt(scheme, keys, np.stack(images), BLOCK))


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
  logits = token_logits(model.clone(grid=grid), adapted, cipher)
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


def test_the_probe_says_what_the_cipher_does():
  scheme, key = SCRAMBLED["all"], key_from_seed(8)
  cipher = signed_permutation(scheme, key, 48, 64, BLOCK)
  assert 0.3 < cipher.negative.mean() < 0.7
  noise = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)

  def blocks(image):
    cells = image.reshape(6, BLOCK, 8, BLOCK, 3).transpose(0, 2, 1, 3, 4)
    return cells.reshape(48, -1)

  moved = blocks(noise)[cipher.blocks][:, cipher.values]
  np.testing.assert_array_equal(
      blocks(under(scheme, key, noise)[0]),
      np.where(cipher.negative, 255 - moved, moved),
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


@pytest.mark.parametrize("scheme", SCHEMES)
def test_block_order_is_found_whatever_a_scheme_does_inside_blocks(scheme):
  hidden = hide_layout(scheme)
  key = fresh_keys(1)[0]
  order = block_order(hidden, key, 72, 64, BLOCK)
  assert sorted(order) == list(range(72))
  bare = scheme_of(BlockScramble())
  if not any(isinstance(op, BlockScramble) for op in SCHEMES[scheme].ops):
    np.testing.assert_array_equal(order, block_order(bare, key, 72, 64, BLOCK))


def test_a_scheme_that_leaves_blocks_in_place_has_them_in_order():
  order = block_order("blockwise", fresh_keys(1)[0], 72, 64, BLOCK)
  np.testing.assert_array_equal(order, np.arange(72))


def test_a_scheme_that_mixes_blocks_has_no_block_order():
  class Mix:
    kind = 99

    def encrypt(self, stream, blocks, grid, top=255):
      return blocks.at[0].set(jnp.roll(blocks[0], 1, axis=0))

  with pytest.raises(UserError, match="values of a block together"):
    block_order(scheme_of(Mix()), key_from_seed(0), 16, 24, BLOCK)


@pytest.mark.parametrize("bands, fields", [
    (0, {"pos_embed": "none"}), (2, {"pos_region": (2, 0)}),
])
def test_with_hidden_layout_the_client_gets_the_map_it_would_have_got(
    bands, fields
):
  model, variables = make(form="blockwise", embed="sorted", **fields)
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
  model, variables = make(form="blockwise", embed="sorted", pos_embed="none")
  image = np.zeros((1, 48, 64, 3), np.uint8)
  image[:, :24] = picture(24, 64)
  one = block_logits(model, variables, image)[0]
  two = block_logits(model, variables, image[:, ::-1])[0]
  np.testing.assert_array_equal(
      one.reshape(6, 8, 19), two.reshape(6, 8, 19)[::-1]
  )


def test_logits_of_another_number_of_blocks_are_refused():
  with pytest.raises(UserError, match="48 blocks of 8"):
    layout.assemble(
        np.zeros((47, 19)), "blockwise", key_from_seed(1), 48, 64, BLOCK
    )


def test_models_that_need_the_layout_are_refused():
  image = picture(48, 64)[None]
  with pytest.raises(UserError, match="pos_embed=none"):
    bag.block_logits(*make(), image)
  with pytest.raises(UserError, match="naive"):
    model, variables = make(decoder="pup", norm="group", pos_embed="none")
    bag.block_logits(model, variables, image)
  model = SETR(19, "demo", 16, "blockwise", 8, (3, 4), pos_embed="none")
  with pytest.raises(UserError, match="block = patch"):
    bag.block_logits(model, {}, image)
