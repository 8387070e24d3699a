"""Training on what clients encrypted, beside the same encrypted in training."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks import contributed
from ppseg_jax import optim, train
from ppseg_jax.encryption import encrypt, fresh_keys
from ppseg_jax.encryption.layout import moves_of
from ppseg_jax.runs import keys
from ppseg_jax.runs import model as models
from tests.helpers import photo, random_variables, run_main, tiny_config

HIDDEN = "blockwise_hidden"
IMAGES = np.stack([photo(32, 48, seed) for seed in range(4)])
LABELS = (IMAGES[..., 0] // 64).astype(np.uint8)


@pytest.fixture
def step(mini):
  """(config, images, labels) -> measures and new state, compiled once each."""
  compiled = {}

  def call(config, images, labels):
    model = models.make(config, 19)
    optimizer = optim.make_optimizer(config.optim, 100)
    known = str(config)
    if known not in compiled:
      compiled[known] = jax.jit(train.make_update(config, model, optimizer))
    variables = random_variables(model, 32, 48)
    state = {
        "params": variables["params"], "batch_stats": {},
        "opt_state": optimizer.init(variables["params"]), "step": jnp.int32(0),
    }
    return compiled[known](state, {
        "image": np.asarray(images), "label": np.asarray(labels),
        "index": np.arange(4, dtype=np.int32), "epoch": np.zeros(4, np.int32),
        # One of them mirrored, all of them whole.
        "window": np.array([[0, 0, i == 1] for i in range(4)], np.int32),
    })

  return call


@jax.jit
def hidden(own, images, labels):
  moved = encrypt(moves_of(HIDDEN), own, labels[..., None], 8)[..., 0]
  return encrypt(HIDDEN, own, images, 8), moved


def test_under_whichever_keys_images_came_the_training_is_the_same(step):
  """To the last bit, and so is one that encrypts them itself."""
  config = tiny_config(data__name="encrypted", model__aux=False)
  assert keys.of_training(config).scheme == "plain"  # nothing is encrypted
  encrypted = jax.jit(lambda own: encrypt("blockwise", own, IMAGES, 8))
  sent = [encrypted(fresh_keys(4)) for _ in range(2)]
  assert (np.asarray(sent[0]) != np.asarray(sent[1])).mean() > 0.5
  found = [step(config, images, LABELS) for images in sent]
  assert found[0][1]["loss"] > 0 and found[0][1]["grad_norm"] > 0
  jax.tree.map(np.testing.assert_array_equal, *found)


def test_where_blocks_went_does_not_matter_to_a_model_without_places(step):
  config = tiny_config(
      data__name="encrypted", scheme=HIDDEN, model__aux=False, model__stem=0,
      model__pos_embed="none",
  )
  one, two = (hidden(fresh_keys(4), IMAGES, LABELS) for _ in range(2))
  assert (np.asarray(one[0]) != np.asarray(two[0])).mean() > 0.5
  found = [step(config, *each)[1] for each in (one, two)]
  for name in ("loss", "grad_norm"):
    np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-4)
  astray = step(config, one[0], two[1])[1]  # labels of other blocks
  assert abs(astray["loss"] - found[0]["loss"]) > 1e-3


def test_a_cloud_trains_on_three_clients_and_can_be_verified(tmp_path, mini):
  contributed.draw(tmp_path / "plain", {"train": 2, "val": 1}, 32, 48)
  folders = contributed.contribute(
      tmp_path / "plain", tmp_path / "sent", "blockwise", 8
  )
  words = (
      "--config=configs/setr_enc.py", f"--workdir={tmp_path / 'run'}",
      "--config.steps=1", "--config.batch_size=4", "--config.panels=1",
      "--config.data.height=32", "--config.data.width=48",
      "--config.data.name=encrypted",
      f"--config.data.dir={','.join(map(str, folders))}",
  )

  def call(*more):
    done = run_main(*words, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout

  assert "data: train, 6 images" in call()
  found = json.loads((tmp_path / "run" / "result.json").read_text())
  assert found["images"] == 3
  assert found["protocol"]["data"] == "encrypted"
  assert found["protocol"]["key_plan"] == "the clients' own"
  with Image.open(tmp_path / "run" / "panels" / "0000.png") as panel:
    wide = panel.width
  call("--mode=eval", "--config.eval.data_name=folder",
       f"--config.eval.data_dir={tmp_path / 'plain' / 'all'}")
  (path,) = (tmp_path / "run").glob("eval_*.json")
  plain = json.loads(path.read_text())
  assert plain["confusion"] == found["confusion"]  # of the plain pictures
  with Image.open(tmp_path / "run" / "panels_blockwise_on_all" /
                  "0000.png") as panel:
    assert wide < panel.width  # the plain picture is beside the others
  sent = [folder.rename(tmp_path / folder.name) for folder in folders]
  out = call("--mode=verify", f"--config.data.dir={','.join(map(str, sent))}",
             "--config.eval.data_name=folder",
             f"--config.eval.data_dir={tmp_path / 'plain' / 'all'}")
  assert out.count(": equal") == 2
  done = run_main(*words, "--mode=refine")
  assert done.returncode == 2 and "learns from plain images" in done.stderr
