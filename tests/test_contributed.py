"""Training on what clients encrypted, beside the same encrypted in training."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks import contributed
from ppseg_jax import optim, train, viz
from ppseg_jax.encryption import encrypt, fresh_keys
from ppseg_jax.encryption.layout import moves_of
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


def test_a_cloud_trains_on_three_clients_and_their_keys_do_not_matter(
    tmp_path, mini
):
  contributed.draw(tmp_path / "plain", {"train": 2, "val": 1}, 32, 48)

  def call(name, folders, *more):
    return run_main(
        "--config=configs/setr_enc.py", f"--workdir={tmp_path / name}",
        "--config.steps=1", "--config.batch_size=4", "--config.panels=1",
        "--config.data.height=32", "--config.data.width=48",
        "--config.model.stem=0", "--config.eval.boundary=False",
        "--config.data.name=encrypted",
        f"--config.data.dir={','.join(map(str, folders))}", *more,
    )

  found = []
  for name in ("one", "two"):  # the same pictures, other keys
    folders = contributed.contribute(
        tmp_path / "plain", tmp_path / f"sent_{name}", "blockwise", 8
    )
    done = call(name, folders)
    assert done.returncode == 0, done.stderr
    assert "data: train, 6 images" in done.stdout
    found.append(json.loads((tmp_path / name / "result.json").read_text()))
  assert found[0]["images"] == 3
  assert found[0]["confusion"] == found[1]["confusion"]
  one, two = (each["protocol"] for each in found)
  assert one["checkpoint_sha256"] == two["checkpoint_sha256"]
  assert (one["data"], one["key_plan"]) == ("encrypted", "the clients' own")
  with Image.open(tmp_path / "one" / "panels" / "0000.png") as panel:
    shown = viz.split_panel(panel, 32, 48)
  with Image.open(tmp_path / "sent_one" / "a" / "val" / "images" /
                  "00000.png") as cipher:
    np.testing.assert_array_equal(shown[0], np.asarray(cipher))
  assert len(shown) == 3  # encrypted | ground truth | prediction

  sent = [folder.rename(tmp_path / folder.name) for folder in folders]
  done = call("two", sent, "--mode=verify")
  assert done.returncode == 0 and ": equal" in done.stdout, done.stderr
  done = call("two", sent, "--mode=refine")
  assert done.returncode == 2 and "learns from plain images" in done.stderr
