"""Starting from another run, and leaving out a part of the training images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppseg_jax import config as config_checks
from ppseg_jax import data, optim, sharding
from ppseg_jax.configs import setr_paper
from ppseg_jax.encryption import encrypt
from ppseg_jax.errors import UserError
from ppseg_jax.models import pretrained
from ppseg_jax.runs import checkpoints, keys, workdir
from ppseg_jax.runs import model as models
from ppseg_jax.runs.start import fresh_state, make_init, start_from
from tests.helpers import photo

pytestmark = pytest.mark.usefixtures("mini_file")


def make_config(pretrained="", **fields):
  config = setr_paper.get_config()
  config.model.pretrained = pretrained
  config.data.height, config.data.width = 32, 48
  config.key_plan, config.data.flip = "shared", False
  config.start.update(fields)
  return config_checks.resolve(config)


def make_run(config, num_classes=19):
  """(model, fresh variables, their shapes on the mesh) as training has them."""
  model = models.make(config, num_classes)
  init = make_init(
      config, model, optim.make_optimizer(config.optim, config.steps)
  )
  mesh = sharding.make_mesh(config.mesh)
  abstract = models.variables_of(sharding.abstract_on(mesh, init))
  return model, models.variables_of(jax.jit(init)()), abstract


@pytest.fixture(scope="module")
def started(tmp_path_factory, mini_file):
  """A checkpoint, and the function that starts from it: (folder, start)."""
  folder = tmp_path_factory.mktemp("start")
  model, fresh, abstract = make_run(make_config())
  old = jax.tree.map(lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size)).reshape(
      x.shape), fresh)
  manager = checkpoints.open_manager(folder / "checkpoints", {})
  checkpoints.save(manager, 1, old)
  manager.wait_until_finished()

  def start(**fields):
    config = make_config(workdir=str(folder), **fields)
    return start_from(config, keys.shared_key(config.seed), fresh, abstract)[0]

  return folder, model, old, fresh, start


def test_a_run_starts_from_the_other_ones_variables(started):
  _, _, old, fresh, start = started
  jax.tree.map(np.testing.assert_array_equal, start(), old)
  mixed = start(fresh="encoder/embed")
  jax.tree.map(np.testing.assert_array_equal,
               mixed["params"]["encoder"].pop("embed"),
               fresh["params"]["encoder"]["embed"])
  rest = {**old["params"]["encoder"]}
  del rest["embed"]
  jax.tree.map(np.testing.assert_array_equal, mixed["params"]["encoder"], rest)
  mixed = start(fresh="embed, head")
  jax.tree.map(np.testing.assert_array_equal,
               mixed["params"]["head"], fresh["params"]["head"])
  jax.tree.map(np.testing.assert_array_equal,
               mixed["batch_stats"], fresh["batch_stats"])
  with pytest.raises(UserError, match="no parameter is called 'embedding'"):
    start(fresh="embedding")


def test_what_is_fresh_may_have_another_shape(started):
  folder, *_ = started
  config = make_config(workdir=str(folder), fresh="head")
  _, fresh, abstract = make_run(config, num_classes=11)
  key = keys.shared_key(config.seed)
  found, origin = start_from(config, key, fresh, abstract)
  assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, fresh)
  assert origin["step"] == 1 and len(origin["checkpoint_sha256"]) == 64
  config.start.fresh = ""
  with pytest.raises(UserError, match="of another model"):
    start_from(config, key, fresh, abstract)


def test_what_only_the_other_run_has_can_be_left_there(started):
  folder, _, old, *_ = started
  config = make_config(workdir=str(folder), fresh="pos_embed")
  config.model.pos_embed = "none"
  _, fresh, abstract = make_run(config)
  key = keys.shared_key(config.seed)
  found, _ = start_from(config, key, fresh, abstract)
  kept = {**old["params"]["encoder"]}
  del kept["pos_embed"]
  jax.tree.map(np.testing.assert_array_equal, found["params"]["encoder"], kept)
  config.start.fresh = ""
  with pytest.raises(UserError, match="pos_embed has shape"):
    start_from(config, key, fresh, abstract)


def test_an_adapted_start_sees_through_the_shared_key(started):
  _, model, old, _, start = started
  config = make_config()
  images = np.stack([photo(32, 48, seed) for seed in range(2)])
  both = jnp.stack([keys.shared_key(config.seed)] * 2)
  cipher = encrypt(config.scheme, both, images, config.block)
  plain = model.apply(old, images)
  np.testing.assert_allclose(
      model.apply(start(adapt=True), cipher), plain, atol=1e-3
  )
  assert np.abs(model.apply(old, cipher) - plain).max() > 0.1


def test_pretrained_weights_are_adapted_as_a_run_is(started, tmp_path):
  _, model, old, fresh, _ = started
  path = tmp_path / "plain.safetensors"
  pretrained.export(path, model, old)
  config = make_config(adapt=True, pretrained=str(path))
  values, _ = pretrained.load(path, model, fresh)
  state = pretrained.put(fresh, values)
  found, origin = start_from(
      config, keys.shared_key(config.seed), state, fresh
  )
  image = photo(32, 48)[None]
  cipher = encrypt(
      config.scheme, keys.shared_key(config.seed)[None], image, config.block
  )
  np.testing.assert_allclose(
      model.apply(found, cipher), model.apply(old, image), atol=1e-3
  )
  assert origin["adapt"] and "step" not in origin


def test_a_start_that_cannot_be_is_refused_in_a_sentence(started, tmp_path):
  *_, fresh, _ = started
  config = make_config(workdir=str(tmp_path))
  with pytest.raises(UserError, match="no trained model to start from"):
    start_from(config, keys.shared_key(config.seed), fresh, {})
  with pytest.raises(UserError, match="no effect without start.workdir"):
    make_config(adapt=True)
  with pytest.raises(UserError, match="no effect without start.workdir"):
    make_config(fresh="head", pretrained="vit.npz")
  config = setr_paper.get_config()
  config.start.update(adapt=True, workdir="w")
  with pytest.raises(UserError, match="key_plan=image; use key_plan=shared"):
    config_checks.resolve(config)


def streets(leave_out, count=20):
  config = setr_paper.get_config().data
  config.update(height=32, width=48, train_images=count, leave_out=leave_out)
  return config


@given(st.integers(2, 5), st.integers(5, 30))
def test_parts_left_out_are_disjoint_and_cover_train(parts, count):
  seen = []
  for part in range(1, parts + 1):
    config = streets(f"{part}/{parts}", count)
    held = data.load(config, "left_out")._source._indices
    rest = data.load(config, "train")._source._indices
    assert not set(held) & set(rest) and len(held) + len(rest) == count
    seen += held
  assert seen == list(range(count))


def test_a_part_of_what_is_left_is_not_what_was_left_out_before():
  first = data.load(streets("5/5"), "left_out")._source._indices
  config = streets("5/5,1/2")
  held = data.load(config, "left_out")._source._indices
  rest = data.load(config, "train")._source._indices
  assert first == [16, 17, 18, 19] and held == list(range(8))
  assert rest == list(range(8, 16))
  assert len(data.load(config, "val")) == 64
  image, _ = data.load(config, "train")[0]
  whole, _ = data.load(streets(""), "train")[8]
  np.testing.assert_array_equal(image, whole)


@pytest.mark.parametrize("text", ["a", "0/2", "3/2", "1/1", "1,2", "-1/2"])
def test_a_part_that_is_none_is_refused(text):
  with pytest.raises(UserError, match="data.leave_out"):
    data.load(streets(text), "train")


def test_a_run_that_started_from_another_is_used_without_naming_that(tmp_path):
  begun = make_config(workdir="somewhere").to_dict()
  workdir.write_json(tmp_path / "config.json", begun)
  fresh = make_config().to_dict()
  moved = make_config(workdir="elsewhere").to_dict()
  workdir.check_config(tmp_path, fresh, ignore=workdir.TRAINING)
  workdir.check_config(tmp_path, moved)
  with pytest.raises(UserError, match="start.workdir is a run there"):
    workdir.check_config(tmp_path, fresh)


@pytest.mark.parametrize("backend, host, dtype", [
    ("cpu", True, "float32"),
    ("gpu", True, "bfloat16"),  # whose attention there is not one of the host
    ("gpu", False, "float32"),
])
def test_fresh_values_lie_as_the_mesh_says(backend, host, dtype, monkeypatch):
  """Computed by the device or by the host, which JAX may be kept from using."""
  config = make_config()
  config.model.dtype = dtype

  def init():  # a function of its own each time, since jit keeps what it traced
    return make_init(
        config, models.make(config, 19),
        optim.make_optimizer(config.optim, config.steps),
    )

  abstract = sharding.abstract_on(sharding.make_mesh(config.mesh), init())
  expected = jax.jit(init())()
  asked = []

  def local_devices(backend):
    asked.append(backend)
    if not host:
      raise RuntimeError("Unknown backend cpu")
    return jax.devices()

  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  monkeypatch.setattr(jax, "local_devices", local_devices)
  state = fresh_state(init(), abstract)
  assert set(asked) == (set() if backend == "cpu" else {"cpu"})
  for found, value, leaf in zip(*map(
      jax.tree.leaves, (state, expected, abstract)
  ), strict=True):
    assert (found.sharding, found.dtype) == (leaf.sharding, leaf.dtype)
    np.testing.assert_array_equal(found, value)
