"""The encoder: its sizes, position embeddings, dropping and recomputing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.models.vit import SIZES, Block
from tests.helpers import make_setr, photo, random_variables


def make(form="blockwise", grid=(6, 8), patch=8, block=8, **fields):
  model = make_setr(form, patch, block, grid, **fields)
  return model, random_variables(model, grid[0] * patch, grid[1] * patch)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_its_tokens_and_width(size):
  model = make_setr(size=size, class_token=True)
  image = jax.ShapeDtypeStruct((1, 16, 24, 3), jnp.uint8)
  encoder = jax.eval_shape(model.init, jax.random.key(0), image)["params"][
      "encoder"
  ]
  width, depth, _, distilled, _ = SIZES[size]
  assert encoder["class_token"].shape == (1, width)
  assert ("distillation_token" in encoder) == distilled
  assert f"block{depth - 1}" in encoder and f"block{depth}" not in encoder


def test_another_grid_is_served_by_resized_position_embeddings():
  model, variables = make()
  logits = jax.eval_shape(model.apply, variables, photo(32, 96)[None])
  assert logits.shape == (1, 32, 96, 19)


def test_recomputing_blocks_changes_no_logit():
  model, variables = make()
  again, _ = make(remat=True)
  image = photo(48, 64)[None]
  np.testing.assert_allclose(
      jax.jit(model.apply)(variables, image),
      jax.jit(again.apply)(variables, image), atol=1e-5,
  )


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_without_positions_the_order_of_blocks_changes_nothing_else(norm):
  """What hiding the layout rests on: logits move with their blocks."""
  model = make_setr(pos_embed="none", norm=norm, class_token=True)
  image = photo(16, 24)
  variables = random_variables(model, 16, 24)
  blocks = image.reshape(2, 8, 3, 8, 3).swapaxes(1, 2).reshape(6, 8, 8, 3)
  order = np.random.default_rng(0).permutation(6)
  moved = blocks[order].reshape(2, 3, 8, 8, 3).swapaxes(1, 2)
  logits = jax.jit(
      lambda images: model.apply(variables, images, upsample=False)
  )(np.stack([image, moved.reshape(16, 24, 3)]))
  plain, mixed = logits.reshape(2, 6, 19)
  assert np.abs(plain - mixed).max() > 0.1
  np.testing.assert_allclose(mixed, plain[order], atol=1e-4)


def test_drop_path_skips_whole_branches_of_single_samples():
  x = jax.random.normal(jax.random.key(0), (64, 3, 8))
  block = lambda rate: Block(2, jnp.float32, True, 0.0, rate, train=True)
  params = block(0.0).init(jax.random.key(1), x)
  kept = block(0.0).apply(params, x)
  assert (jnp.abs(kept - x).max((1, 2)) > 1e-3).all()
  run = jax.jit(
      lambda seed: block(0.5).apply(
          params, x, rngs={"dropout": jax.random.key(seed)}
      )
  )
  still = np.asarray((run(0) == x).all((1, 2)))
  assert 4 <= still.sum() <= 30  # a quarter loses both branches
  assert (still != np.asarray((run(1) == x).all((1, 2)))).any()
  np.testing.assert_array_equal(run(0), run(0))
