"""Refinement by the client: the filter, the network, and how it is fitted."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ppseg_jax import config as config_checks
from ppseg_jax import losses, sharding, train, verify
from ppseg_jax.configs import setr_plain
from ppseg_jax.data.labels import CITYSCAPES
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import Row, Run, report, suite
from ppseg_jax.refine import fit, network
from ppseg_jax.refine.guided import guided_filter
from ppseg_jax.runs import workdir
from ppseg_jax.runs.model import Trained
from tests.helpers import ROOT, photo

pytestmark = pytest.mark.usefixtures("mini_file")


def reference_filter(image, values, radius, eps):
  """He et al., equations 14 to 16, window by window."""
  guide = image.astype(np.float64) / 255
  h, w, classes = values.shape
  slope, offset = np.zeros((h, w, 3, classes)), np.zeros((h, w, classes))

  def window(x, i, j):
    rows = slice(max(i - radius, 0), i + radius + 1)
    return x[rows, max(j - radius, 0) : j + radius + 1].reshape(-1, x.shape[-1])

  for i in range(h):
    for j in range(w):
      x, y = window(guide, i, j), window(values, i, j)
      centred = x - x.mean(0)
      spread = centred.T @ centred / len(x) + eps * np.eye(3)
      slope[i, j] = np.linalg.solve(spread, centred.T @ y / len(x))
      offset[i, j] = y.mean(0) - x.mean(0) @ slope[i, j]
  out = np.zeros_like(values)
  for i in range(h):
    for j in range(w):
      a = window(slope.reshape(h, w, -1), i, j).mean(0).reshape(3, classes)
      out[i, j] = guide[i, j] @ a + window(offset, i, j).mean(0)
  return out


def test_guided_filter_is_that_of_the_paper():
  image = photo(9, 12)
  values = np.random.default_rng(0).random((9, 12, 2))
  ours = guided_filter(image[None], jnp.asarray(values[None], jnp.float32), 2,
                       1e-2)
  np.testing.assert_allclose(
      ours[0], reference_filter(image, values, 2, 1e-2), atol=1e-4
  )


def test_guided_filter_keeps_probabilities_adding_up():
  logits = np.random.default_rng(0).normal(size=(1, 16, 24, 5))
  refined = guided_filter(
      photo(16, 24)[None], jax.nn.softmax(jnp.asarray(logits)), 4, 1e-3
  )
  np.testing.assert_allclose(refined.sum(-1), 1, atol=1e-3)


def blocky(seeds):
  """Pictures of two colours with a border inside blocks of 8, their labels,
  and logits that only know the share of each label in a block."""
  images, labels = [], []
  for seed in seeds:
    rng = np.random.default_rng(seed)
    line = rng.integers(-6, 7) + np.arange(32) * rng.uniform(-0.8, 0.8) + 16
    label = (np.arange(32)[:, None] > line).astype(np.uint8)
    colour = rng.integers(0, 256, (2, 3))
    noise = rng.normal(0, 10, (32, 32, 3))
    images.append(np.clip(colour[label] + noise, 0, 255).astype(np.uint8))
    labels.append(label)
  labels = np.stack(labels)
  share = labels.reshape(-1, 4, 8, 4, 8).mean((2, 4), keepdims=True)
  share = np.broadcast_to(share, (len(labels), 4, 8, 4, 8))
  share = share.reshape(labels.shape)
  logits = np.log(np.stack([1 - share, share], -1) + 1e-3)
  return np.stack(images), labels, logits.astype(np.float32)


def test_the_network_starts_at_the_clouds_labels_and_learns_borders():
  net = network.Refiner(2, width=12, layers=3, factor=2)
  images, labels, logits = blocky(range(32))
  params = net.init(jax.random.key(0), images[:1], logits[:1])["params"]
  before = net.apply({"params": params}, images, logits)
  np.testing.assert_allclose(before, jax.nn.log_softmax(logits), atol=1e-6)
  optimizer = optax.adam(5e-3)

  @jax.jit
  def update(params, state, images, logits, labels):
    grads = jax.grad(lambda p: losses.cross_entropy(
        net.apply({"params": p}, images, logits), labels))(params)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state

  state = optimizer.init(params)
  for step in range(80):
    at = np.arange(8) + step % 4 * 8
    params, state = update(params, state, images[at], logits[at], labels[at])
  images, labels, logits = blocky(range(100, 116))
  after = net.apply({"params": params}, images, logits).argmax(-1)
  wrong = (after != labels).mean(), (logits.argmax(-1) != labels).mean()
  assert wrong[0] < 0.5 * wrong[1]


def test_the_network_alone_does_not_read_logits():
  net = network.Refiner(3, width=8, layers=2, factor=2, reads_logits=False)
  images = photo(16, 24)[None]
  logits = np.random.default_rng(0).normal(size=(2, 1, 16, 24, 3))
  params = net.init(jax.random.key(0), images, logits[0])["params"]
  params["out"]["kernel"] += 0.1
  one, two = (net.apply({"params": params}, images, x) for x in logits)
  np.testing.assert_array_equal(one, two)
  assert np.ptp(one) > 0


def make_config():
  config = setr_plain.get_config()
  config.update(steps=2, batch_size=4, log_every=2, checkpoint_every=2,
                panels=1)
  config.data.update(height=32, width=48, train_images=12, val_images=5)
  config.eval.every = 2
  config.refine.update(steps=4, width=8, layers=2, radii=(2, 4), eps=(1e-3,))
  return config


def test_the_default_network_is_small_and_a_large_one_is_refused():
  config = config_checks.resolve(make_config())
  config.refine.update(width=48, layers=4)
  fit.make_networks(config, 19)  # as configs/setr_enc.py has it
  config.refine.width = 128
  with pytest.raises(UserError, match="fewer than 100000"):
    fit.make_networks(config, 19)
  config = make_config()
  config.refine.factor = 3
  with pytest.raises(UserError, match=r"height=32 .* refine\.factor=3"):
    config_checks.resolve(config)


@pytest.fixture(scope="module")
def refined(tmp_path_factory, mini_file):
  folder = tmp_path_factory.mktemp("refined") / "plain-0"
  config = config_checks.resolve(make_config())
  train.train(config, folder)
  results = fit.refine(config, folder)
  return folder, config, results


def test_every_variant_leaves_a_record_of_the_same_images(refined):
  folder, _, results = refined
  own = json.loads((folder / "result.json").read_text())
  stored = {name: json.loads((folder / f"refine_{name}.json").read_text())
            for name in fit.VARIANTS}
  assert {n: r["miou"] for n, r in stored.items()} == {
      n: r.miou for n, r in results.items()
  }
  assert stored["unrefined"]["confusion"] == own["confusion"]
  for name, record in stored.items():
    assert np.sum(record["confusion"]) == own["pixels"] == record["pixels"]
    assert record["protocol"]["refinement"] == name
    assert (record["protocol"]["checkpoint_sha256"]
            == own["protocol"]["checkpoint_sha256"])
    assert (folder / f"panels_refine_{name}" / "0000.png").exists()
  assert len({json.dumps(r["confusion"]) for r in stored.values()}) >= 3
  assert 0 < stored["network"]["protocol"]["refinement_parameters"] < 100_000
  assert stored["guided"]["protocol"]["refinement_filter"][0] in (2, 4)


def test_the_network_learns_to_draw_borders_that_the_logits_blur():
  config = config_checks.resolve(make_config())
  config.update(batch_size=8)
  config.refine.update(steps=60, lr=1e-2)
  mesh = sharding.make_mesh(config.mesh)

  class Halves:  # dark above, bright below a border that the image shows
    label_space = CITYSCAPES

    def __len__(self):
      return 24

    def __getitem__(self, i):
      border = 8 + 5 * i % 16
      label = np.zeros((32, 48), np.uint8)
      label[border:] = 1
      return (60 + 120 * label)[..., None].repeat(3, -1), label

  class Model:  # knows the halves, on patches of 16
    def apply(self, variables, images, train=False):
      bright = images[..., :1].astype(jnp.float32) / 60 - 2
      coarse = jax.image.resize(bright, (len(images), 2, 3, 1), "linear")
      fine = jax.image.resize(coarse, bright.shape, "linear")
      rest = jnp.full((*bright.shape[:3], 17), -9.0)
      return jnp.concatenate([-fine, fine, rest], -1)

  nets = {"network": fit.make_networks(config, 19)["network"]}
  trained = Trained(Model(), {}, 0, 0.0)
  params = fit.fit(config, trained, nets, Halves(), mesh)
  results = fit.measure(config, trained, {
      "unrefined": lambda images, logits: logits,
      "network": lambda images, logits: nets["network"].apply(
          {"params": params["network"]}, images, logits),
  }, "val", Halves(), mesh, images=0)
  assert results["unrefined"].pixel_accuracy < 0.97
  assert results["network"].pixel_accuracy > 0.99


def test_the_stored_network_gives_the_stored_figures(
    refined, tmp_path, capsys
):
  folder, config, results = refined
  copy = tmp_path / "copy"
  shutil.copytree(folder, copy)
  for name in ("result", "refine_unrefined", "refine_alone"):  # to be quick
    (copy / f"{name}.json").unlink()
  record = json.loads((copy / "refine_guided.json").read_text())
  record["confusion"][0][0] += 2
  workdir.write_json(copy / "refine_guided.json", record)
  assert not verify.verify(copy)
  printed = capsys.readouterr().out
  assert "refine_network.json: equal" in printed
  assert "refine_guided.json: DIFFERS" in printed
  params = network.load(folder / "refine.npz")
  assert set(params) == {"network", "alone"}
  nets = fit.make_networks(config, 19)
  net, exported, names = network.load_exported(folder / "refiner.safetensors")
  assert net == nets["network"] and names == CITYSCAPES.names
  jax.tree.map(np.testing.assert_array_equal, exported, params["network"])
  fresh = fit._init(config, nets["alone"])
  changed = jax.tree.map(lambda a, b: np.any(a != b), params["alone"], fresh)
  assert any(jax.tree.leaves(changed))
  assert results["network"].protocol["refinement"] == "network"


def test_a_row_of_a_suite_can_be_a_refinement(refined, monkeypatch):
  monkeypatch.chdir(ROOT)
  folder, _, results = refined
  fields = {
      name: value for name, value in workdir.flatten(
          make_config().to_dict()).items()
      if name.split(".")[0] not in ("scheme", "model")
  }
  for name in ("refine.radii", "refine.eps"):
    fields[name] = tuple(fields[name])
  run = Run("plain", "configs/setr_plain.py", (
      Row("plain", "images"),
      Row("network", "nothing", refined="network"),
  ), fields)
  jobs = suite.jobs([run], folder.parent)
  assert "--mode=refine" in jobs[0].command(run.rows[1])
  lines = report.collect([run], jobs)
  assert lines[1].values("miou") == [results["network"].miou]
  assert jobs[0].files(run.rows[1])[1].name == "panels_refine_network"
