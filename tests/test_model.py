import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.encryption import encrypt, fresh_keys
from ppseg_jax.evaluate import predict_logits, window_starts
from ppseg_jax.models.embed import block_tokens
from ppseg_jax.models.setr import SETR
from tests.helpers import photo


def apply(model, variables, images):
  return jax.jit(model.apply)(variables, images)


def make(form="blockwise", patch=8, block=8, grid=(6, 8), **fields):
  model = SETR(19, "demo", patch, form, block, grid, **fields)
  shape = (1, grid[0] * patch, grid[1] * patch, 3)
  variables = jax.jit(model.init)(jax.random.key(0), np.zeros(shape, np.uint8))
  return model, variables


@pytest.mark.parametrize("scheme", ["blockwise", "blockwise_value"])
@pytest.mark.parametrize("patch, block", [(8, 8), (16, 8)])
def test_logits_are_the_same_bits_for_plain_and_20_random_keys(
    scheme, patch, block
):
  model, variables = make(scheme, patch, block, grid=(96 // patch, 8))
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
  plain = apply(model, variables, image)
  assert not np.allclose(plain, apply(model, variables, cipher), atol=1e-3)


def test_logits_have_the_size_of_the_image_and_are_float32():
  model, variables = make(dtype=jnp.bfloat16)
  logits = apply(model, variables, photo(48, 64)[None])
  assert logits.shape == (1, 48, 64, 19) and logits.dtype == jnp.float32
  leaves = jax.tree.leaves(variables)
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def test_another_grid_is_served_by_resized_position_embeddings():
  model, variables = make()
  assert apply(model, variables, photo(32, 96)[None]).shape == (1, 32, 96, 19)


def test_recomputing_blocks_changes_no_logit():
  model, variables = make()
  again, _ = make(remat=True)
  image = photo(48, 64)[None]
  np.testing.assert_allclose(
      apply(model, variables, image), apply(again, variables, image),
      atol=1e-5,
  )


def test_tokens_of_a_patch_hold_its_blocks_in_order():
  image = jnp.arange(8 * 8, dtype=jnp.uint8).reshape(1, 8, 8, 1)
  tokens = block_tokens(image, patch=4, form="blockwise", block=2)
  first = np.asarray(image[0, :4, :4, 0])
  expected = [np.sort(first[r : r + 2, c : c + 2].ravel())
              for r in (0, 2) for c in (0, 2)]
  assert tokens.shape == (1, 4, 16)
  np.testing.assert_array_equal(tokens[0, 0], np.concatenate(expected))


def test_windows_cover_the_image_and_lie_on_the_grid():
  assert window_starts(1024, 768, 512) == [0, 256]
  assert window_starts(2048, 768, 512) == [0, 512, 1024, 1280]
  assert window_starts(768, 768, 512) == [0]
  for size, window, stride in ((96, 32, 16), (112, 48, 48), (64, 64, 8)):
    covered = {p for s in window_starts(size, window, stride)
               for p in range(s, s + window)}
    assert covered == set(range(size))


def test_sliding_windows_average_what_each_window_says():
  model, variables = make(grid=(4, 4))
  image = photo(48, 32)[None]
  logits = jax.jit(
      lambda variables, image: predict_logits(
          model, variables, image, (32, 32), 16
      )
  )(variables, image)
  upper = apply(model, variables, image[:, :32])
  lower = apply(model, variables, image[:, 16:])
  both = (upper[:, 16:] + lower[:, :16]) / 2
  expected = np.concatenate([upper[:, :16], both, lower[:, 16:]], axis=1)
  np.testing.assert_allclose(logits, expected, atol=1e-5)
