"""The picture that a model draws of a canonical form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax import config as config_checks
from ppseg_jax.configs import setr_enc
from ppseg_jax.encryption import canonical, encrypt, keys
from ppseg_jax.errors import UserError
from ppseg_jax.models import rank

_draw = jax.jit(rank.draw, static_argnums=(1, 2))


def _scene(height: int, width: int) -> np.ndarray:
  """A bright disc on a slope, uint8 [H, W, 3]."""
  y, x = np.indices((height, width))
  disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 3) ** 2
  grey = 60 + 100 * x / width + 90 * disc
  return np.stack([grey, grey * 0.8, 200 - grey * 0.5], -1).astype(np.uint8)


@pytest.mark.parametrize("scheme", ["blockwise", "blockwise_value"])
def test_a_picture_by_rank_is_the_same_under_every_key(scheme):
  @jax.jit
  def of_plain_and_encrypted(scene, seed):
    key = jax.random.key(seed, impl=keys.IMPL)
    return (rank.draw(scene[None], scheme, 8)[0],
            rank.draw(encrypt(scheme, key, scene, 8)[None], scheme, 8)[0])

  for seed in range(3):
    plain, encrypted = of_plain_and_encrypted(_scene(16, 24), seed)
    assert (plain == encrypted).all()


def test_a_picture_by_rank_is_the_same_in_every_batch():
  scenes = jnp.stack([_scene(32, 48), _scene(32, 48)[::-1, ::-1]])
  assert (_draw(scenes, "blockwise", 8)[1]
          == _draw(scenes[1:], "blockwise", 8)[0]).all()


def test_a_picture_by_rank_has_the_canonical_form_it_was_drawn_of():
  scenes = _scene(32, 48)[None]
  drawn = _draw(scenes, "blockwise", 8)
  assert (canonical("blockwise", drawn, 8)
          == canonical("blockwise", scenes, 8)).all()


def test_a_picture_by_rank_is_nearer_to_the_scene_than_its_mosaic():
  scene = _scene(32, 48)[None].astype(int)
  blocks = scene.reshape(1, 4, 8, 6, 8, 3)
  mosaic = np.broadcast_to(blocks.mean((2, 4), keepdims=True), blocks.shape)
  drawn = np.asarray(_draw(scene.astype(np.uint8), "blockwise", 8)).astype(int)
  assert (abs(drawn - scene).mean()
          < abs(mosaic.reshape(scene.shape) - scene).mean() / 2)


def test_sums_of_the_largest_block_do_not_overflow():
  block = rank.LARGEST_BLOCK
  dark = _scene(2 * block, 2 * block)[None] // 3
  drawn = np.asarray(_draw(dark, "blockwise", block)).astype(int)
  light = np.asarray(_draw(dark + 170, "blockwise", block)).astype(int)
  assert abs(light - 170 - drawn).mean() < 1
  with pytest.raises(UserError, match="blocks of at most 32, not 64"):
    rank.draw(dark, "blockwise", 64)


@pytest.mark.parametrize(("fields", "part"), [
    ({"scheme": "plain", "model.form": "plain"}, "model.form=plain is not"),
    ({"model.pos_embed": "none", "model.stem": 0}, "neighbouring blocks"),
    ({"model.pos_region": (2, 0)}, "neighbouring blocks"),
    ({"model.spread": True}, "model.spread=True is of"),
    ({"model.reader": 64}, "model.reader=64 is of"),
])
def test_what_has_no_such_picture_is_refused(fields, part):
  config = setr_enc.get_config()
  config.model.embed = "rank"
  for name, value in fields.items():
    config.update_from_flattened_dict({name: value})
  with pytest.raises(UserError, match=part):
    config_checks.resolve(config)
