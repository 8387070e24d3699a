import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.encryption import fresh_keys, image_keys, key_from_seed
from ppseg_jax.encryption.keys import EVAL, IMPL, KEY_PLANS, TRAIN
from ppseg_jax.errors import UserError

ROOT = key_from_seed(0)


def words(plan, index, epoch, split=TRAIN, clients=3, root=ROOT):
  keys = image_keys(
      plan, root, jnp.asarray(index), jnp.asarray(epoch), split, clients
  )
  return [tuple(row) for row in np.asarray(jax.random.key_data(keys)).tolist()]


def test_fresh_keys_have_128_bits_and_differ():
  keys = fresh_keys(1000)
  assert str(jax.random.key_impl(keys)) == IMPL
  data = np.asarray(jax.random.key_data(keys))
  assert data.shape == (1000, 4) and data.dtype == np.uint32
  assert len({row.tobytes() for row in data}) == 1000
  assert len(np.unique(data)) > 3990  # no word of the key is fixed


def test_shared_plan_has_one_key_for_everything():
  seen = set(words("shared", [0, 1, 2], [0, 0, 5]))
  assert seen == set(words("shared", [7], [1], split=EVAL)) and len(seen) == 1


def test_client_plan_has_one_key_a_client_and_no_client_in_two_splits():
  train = words("client", [0, 1, 2, 3], [0, 1, 2, 3])
  assert train[0] == train[3] and len(set(train)) == 3
  assert not set(train) & set(words("client", [0, 1, 2], [0] * 3, split=EVAL))


def test_image_plan_keeps_an_images_key_over_epochs():
  assert words("image", [4], [0]) == words("image", [4], [9])
  assert len(set(words("image", [0, 1, 2], [0] * 3))) == 3


def test_epoch_plan_has_fresh_keys_every_epoch():
  assert len(set(words("epoch", [4] * 5, list(range(5))))) == 5


@pytest.mark.parametrize("plan", ["client", "image", "epoch"])
def test_evaluation_keys_are_never_seen_in_training(plan):
  train = set(words(plan, list(range(50)), [0] * 50, clients=50))
  held_out = set(words(plan, list(range(50)), [0] * 50, EVAL, clients=50))
  assert not train & held_out


@pytest.mark.parametrize("plan", KEY_PLANS)
def test_an_images_key_does_not_depend_on_the_batch_it_is_in(plan):
  forward = words(plan, [3, 8, 5], [1, 2, 1])
  backward = words(plan, [5, 8, 3], [1, 2, 1])
  assert forward == backward[::-1]
  assert words(plan, [8], [2]) == forward[1:2]


def test_seeds_use_all_their_64_bits():
  data = {tuple(np.asarray(jax.random.key_data(key_from_seed(s))).tolist())
          for s in (7, 2**40 + 7, 2**63 + 7)}
  assert len(data) == 3
  with pytest.raises(UserError, match="seed=-1"):
    key_from_seed(-1)


def test_unknown_plan_is_refused():
  with pytest.raises(UserError, match="key_plan='daily'"):
    words("daily", [0], [0])
