"""Patch embeddings: the tokens they read, and that no key changes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.encryption import encrypt, fresh_keys, release
from ppseg_jax.errors import UserError
from ppseg_jax.models.embed import PatchEmbed, block_tokens, spreads
from tests.helpers import make_setr, photo, random_variables


def make(form="blockwise", grid=(6, 8), patch=8, block=8, **fields):
  model = make_setr(form, patch, block, grid, **fields)
  return model, random_variables(model, grid[0] * patch, grid[1] * patch)


@pytest.mark.parametrize("scheme", ["blockwise", "blockwise_value"])
@pytest.mark.parametrize("patch, block", [(8, 8), (16, 8)])
def test_logits_are_the_same_bits_for_plain_and_20_random_keys(
    scheme, patch, block
):
  model, variables = make(scheme, (96 // patch, 8), patch, block)
  image = photo(96, 8 * patch)
  logits = jax.jit(model.apply)
  plain = np.asarray(logits(variables, image[None]))
  assert np.ptp(plain) > 0.1  # the logits depend on the image at all
  images = np.broadcast_to(image, (20, *image.shape))
  encrypted = np.asarray(encrypt(scheme, fresh_keys(20), images, block))
  assert (encrypted != image).mean() > 0.5
  for cipher in encrypted:
    np.testing.assert_array_equal(logits(variables, cipher[None]), plain)


def test_linear_embedding_does_not_survive_encryption():
  model, variables = make("plain")
  image = photo(48, 64)[None]
  cipher = encrypt("blockwise", fresh_keys(1), image, 8)
  logits = jax.jit(model.apply)
  plain = logits(variables, image)
  assert not np.allclose(plain, logits(variables, cipher), atol=1e-3)


def test_tokens_of_a_patch_hold_its_blocks_in_order():
  image = jnp.arange(8 * 8, dtype=jnp.uint8).reshape(1, 8, 8, 1)
  tokens = block_tokens(image, patch=4, form="blockwise", block=2)
  first = np.asarray(image[0, :4, :4, 0])
  expected = [np.sort(first[r : r + 2, c : c + 2].ravel())
              for r in (0, 2) for c in (0, 2)]
  assert tokens.shape == (1, 4, 16)
  np.testing.assert_array_equal(tokens[0, 0], np.concatenate(expected))


def test_spreads_are_nothing_inside_the_groups_of_a_level():
  image, form = photo(16, 24)[None], "blockwise"
  whole = spreads(block_tokens(image, 8, form, 8), form, 8)[0]
  shown = release(form, "q8", image, 8)
  told = spreads(block_tokens(shown, 8, form, 8), form, 8)[0]
  assert whole.shape == (6,) and (np.diff(whole) < 0).all() and whole[-1] > 0
  assert (told[:3] > 0).all() and (told[3:] == 0).all()


def test_a_model_that_is_told_the_spread_is_as_blind_to_keys():
  model, variables = make("blockwise", (2, 3), spread=True)
  image = photo(16, 24)[None]
  logits = jax.jit(model.apply)
  plain = np.asarray(logits(variables, image))
  cipher = encrypt("blockwise", fresh_keys(1), image, 8)
  np.testing.assert_array_equal(logits(variables, cipher), plain)
  bare, _ = make("blockwise", (2, 3))
  tree = {"params": {
      **variables["params"], "encoder": {
          **variables["params"]["encoder"], "embed": {
              "linear": variables["params"]["encoder"]["embed"]["linear"]
          },
      },
  }, **{k: v for k, v in variables.items() if k != "params"}}
  assert not np.allclose(bare.apply(tree, image), plain, atol=1e-4)


def test_a_deeper_reader_stands_beside_the_linear_one_and_reads_the_same():
  embed = PatchEmbed(patch=16, form="blockwise", block=8, reader=10)
  variables = jax.eval_shape(
      lambda image: embed.init(jax.random.key(0), image, 12),
      jax.ShapeDtypeStruct((1, 16, 32, 3), jnp.uint8),
  )
  assert {name: leaf["kernel"].shape
          for name, leaf in variables["params"].items()} == {
              "linear": (4 * 3 * 64, 12), "hidden": (4 * 3 * 64, 10),
              "reader": (10, 12)}


def test_an_adaptation_network_has_weights_for_each_block_and_an_order():
  model, variables = make("plain", (2, 3), 8, 4, embed="adaptnet")
  embed = model.encoder.embed
  params = dict(variables["params"]["encoder"]["embed"])
  assert params["kernel"].shape == (24, 48, 256)
  image = np.tile(photo(4, 4), (4, 6, 1))[None]  # all blocks are alike
  params["order"] = jnp.eye(24)
  tokens = jax.jit(lambda params, x: embed.apply({"params": params}, x, 16))
  params["patches"] = {
      "kernel": params["patches"]["kernel"][:, :16],
      "bias": params["patches"]["bias"][:16],
  }
  plain = np.asarray(tokens(params, image))[0]  # [6, 16]
  assert np.abs(plain[1:] - plain[0]).max(1).min() > 0.1
  # Patch 0 holds blocks 0, 1, 6, 7 and patch 1 the two columns beside.
  order = np.arange(24)
  order[[0, 1, 6, 7, 2, 3, 8, 9]] = [2, 3, 8, 9, 0, 1, 6, 7]
  params["order"] = jnp.eye(24)[order]
  moved = np.asarray(tokens(params, image))[0]
  np.testing.assert_allclose(moved[[1, 0, 2, 3, 4, 5]], plain, atol=1e-4)


def test_an_adaptation_network_refuses_images_of_another_size():
  model = make_setr("plain", 8, 4, (2, 3), embed="adaptnet")
  shape = jax.ShapeDtypeStruct((1, 16, 32, 3), jnp.uint8)
  with pytest.raises(UserError, match="image of 16x24, but was given"):
    jax.eval_shape(model.init, jax.random.key(0), shape)
