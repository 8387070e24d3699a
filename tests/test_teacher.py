"""A teacher on plain images: its features, its predictions, and who has one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax import config as config_checks
from ppseg_jax import data, losses, main, optim, sharding
from ppseg_jax import train as training
from ppseg_jax.configs import setr_enc, setr_home, setr_plain
from ppseg_jax.data.labels import VOID
from ppseg_jax.errors import UserError
from ppseg_jax.runs import checkpoints, workdir
from ppseg_jax.runs import model as models
from ppseg_jax.runs.start import first_state, make_init
from ppseg_jax.trees import named_leaves
from tests.helpers import TINY, call, photo, random_variables, write_camvid

pytestmark = pytest.mark.usefixtures("mini_file")


def tiny(config, **fields):
  config.data.height, config.data.width, config.steps = 32, 48, 2
  for name, value in fields.items():
    *section, last = name.split("__")
    (config[section[0]] if section else config)[last] = value
  return config_checks.resolve(config)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, mini_file):
  """The folder of a run on plain images, as if it had been trained."""
  folder = tmp_path_factory.mktemp("teacher")
  config = tiny(setr_plain.get_config())
  variables = random_variables(models.make(config, 19), 32, 48)
  manager = checkpoints.open_manager(folder / "checkpoints", {})
  checkpoints.save(manager, 1, variables)
  manager.wait_until_finished()
  workdir.write_json(folder / "config.json", config.to_dict())
  return folder


def test_a_step_towards_the_teachers_features_moves_what_is_named_alone(
    teacher, tmp_path
):
  config = tiny(
      setr_home.get_config(), batch_size=2, loss__objective="features",
      loss__teacher=str(teacher), loss__teacher_layers=(0, 2),
      start__workdir=str(teacher), start__fresh="embed,stem",
      optim__only="embed,stem", optim__warmup=0,
  )
  model = models.make(config, 19)
  optimizer = optim.make_optimizer(config.optim, config.steps)
  init = make_init(config, model, optimizer)
  abstract = sharding.abstract_on(sharding.make_mesh(config.mesh), init)
  manager = checkpoints.open_manager(tmp_path / "checkpoints", {})
  state = first_state(config, model, init, abstract, manager).state
  before = jax.tree.map(np.asarray, models.bare(state))
  batch = {
      "image": np.stack([photo(32, 48, seed) for seed in range(2)]),
      "label": np.full((2, 32, 48), VOID, np.uint8),
      "index": np.arange(2, dtype=np.int32), "epoch": np.zeros(2, np.int32),
  }
  update = jax.jit(training.make_update(config, model, optimizer))
  state, measures = update(state, batch)
  assert 0.1 < measures["loss"] < 4
  after = named_leaves(models.bare(state))
  moved = {name for name, value in named_leaves(before).items()
           if not np.array_equal(value, after[name])}
  assert moved == {name for name in after if name.startswith(
      ("params/encoder/embed/", "params/encoder/stem/")
  )}
  _, again = update(state, batch)
  assert again["loss"] < measures["loss"]


@pytest.mark.slow
def test_a_student_is_taught_in_two_stages_by_the_commands(teacher, tmp_path):
  camvid = write_camvid(tmp_path / "camvid")

  def train(stage, *args):
    done = call(main.main, "--config=configs/setr_home.py", *TINY,
                f"--workdir={tmp_path / stage}", "--config.optim.warmup=0",
                f"--config.loss.teacher={teacher}", *args)
    assert done.returncode == 0, done.stderr

  train("first", "--config.loss.objective=features",
        f"--config.start.workdir={teacher}", "--config.start.fresh=embed,stem",
        "--config.optim.only=embed,stem", f"--config.data.more=camvid={camvid}")
  train("second", "--config.loss.objective=taught",
        f"--config.start.workdir={tmp_path / 'first'}")


def objective(name, ours, theirs, images=2, **fields):
  """The loss where model and teacher give what they are told to."""
  config = setr_enc.get_config().loss
  config.update(fields)
  loss = losses.OBJECTIVES[name](
      config, 0.4, lambda folder, layers=(): lambda images: (
          (theirs,) * len(layers) if layers else theirs
      ),
  )
  outputs = {"features": lambda layers: (ours,) * len(layers),
             "logits": ours, "aux": ()}
  label = np.full(ours.shape[:3], VOID, np.uint8)
  return float(loss(outputs, {
      "image": None, "label": label, "images": images, "total": 0,
  }))


def test_features_are_compared_token_by_token_whatever_their_scale():
  rng = np.random.default_rng(0)
  theirs = rng.normal(size=(2, 3, 4, 64)).astype(np.float32)
  assert objective("features", 3 * theirs + 1, theirs) < 1e-6
  assert objective("features", -theirs, theirs) == pytest.approx(4, abs=1e-3)
  other = rng.normal(size=theirs.shape).astype(np.float32)
  assert objective("features", other, theirs) == pytest.approx(2, abs=0.1)
  # The halves of a batch add up to it, and layers to their mean.
  halves = [objective("features", a, b, teacher_layers=(0, 2)) for a, b in
            zip(other[:, None], theirs[:, None], strict=True)]
  assert sum(halves) == pytest.approx(objective("features", other, theirs))
  with pytest.raises(UserError, match=r"\(3, 4, 64\).*\(3, 4, 32\)"):
    objective("features", theirs[..., :32], theirs)


def test_a_teachers_prediction_counts_where_there_is_no_label():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
  assert objective("taught", logits + 7, logits) == pytest.approx(0, abs=1e-5)
  apart = objective("taught", 0 * logits, logits)
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  expected = (p * (np.log(p) + np.log(5))).sum(-1).mean()
  assert apart == pytest.approx(expected, rel=1e-5)
  assert objective("taught", 0 * logits, logits, teacher_weight=3.0) == (
      pytest.approx(3 * apart))


def test_only_what_is_named_has_a_gradient_a_rate_and_new_statistics():
  params = {"encoder": {"embed": {"kernel": jnp.ones(2)},
                        "embedding": jnp.ones(2), "block0": {"b": jnp.ones(2)}},
            "head": {"norm": {"scale": jnp.ones(2)}}}
  only = "encoder/embed, head"

  def loss(params):
    return sum(x.sum() for x in jax.tree.leaves(optim.held(params, only)))

  for tree in (jax.grad(loss)(params), optim.rates(params, only=only)):
    moved = {name for name, x in named_leaves(tree).items() if np.any(x)}
    assert moved == {"encoder/embed/kernel", "head/norm/scale"}
  old, new = {"head": {"mean": 0}}, {"head": {"mean": 1}}
  assert optim.mixed(new, old, only) == new
  assert optim.mixed(new, old, "embed") == old
  assert optim.mixed(new, old, "") == new
  with pytest.raises(UserError, match="optim.only='haed' names no parameter"):
    optim.held(params, "haed")


def test_a_new_embedding_has_a_rate_of_its_own_under_an_old_encoder():
  encoder = {name: {"kernel": jnp.ones(1)}
             for name in ("embed", "stem", "block0", "block1")}
  encoder["pos_embed"] = jnp.ones(1)
  found = optim.rates({"encoder": encoder}, layer_decay=0.5, embed_lr=2.0)
  assert named_leaves(found["encoder"]) == {
      "embed/kernel": 2.0, "stem/kernel": 2.0, "block0/kernel": 0.25,
      "block1/kernel": 0.5, "pos_embed": 0.125,
  }


def test_more_images_come_after_the_others_and_without_labels(tmp_path):
  config = setr_enc.get_config().data
  folder = write_camvid(tmp_path / "camvid")
  config.update(height=32, width=48, train_images=5,
                more=f"camvid={folder}, streets", leave_out="1/5")
  source = data.load(config, "train")
  assert len(source) == 4 + 3 + 5 and source.label_space.num_classes == 19
  image, labels = source[4]
  assert image.shape == (32, 48, 3) and (labels == VOID).all()
  assert (source[0][1] != VOID).any()
  np.testing.assert_array_equal(source[8][0], source[0][0])
  assert len(data.load(config, "left_out")) == 1
  with pytest.raises(UserError, match="'mars' is none of streets, camvid"):
    data.parse_more("mars=/data")


@pytest.mark.parametrize("fields, part", [
    ({"loss__objective": "features"}, "these need one"),
    ({"loss__teacher": "runs/plain"}, "objective=segmentation"),
    ({"loss__objective": "taught", "loss__teacher": "w", "setting": "cloud"},
     "only their owner can"),
    ({"loss__objective": "features", "loss__teacher": "w",
      "loss__teacher_layers": (3,)}, "has 2 blocks"),
    ({"data__more": "streets"}, "without labels"),
    ({"data__more": "mars"}, "none of"),
])
def test_a_teacher_that_cannot_teach_is_refused(fields, part):
  with pytest.raises(UserError, match=part):
    tiny(setr_home.get_config(), **fields)
