"""A run's model: made from its config, loaded from its folder, exported."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import Mesh

from ppseg_jax import data, distributed, sharding
from ppseg_jax.data import encrypted, labels
from ppseg_jax.data.labels import LabelSpace
from ppseg_jax.encryption import get_scheme
from ppseg_jax.errors import UserError
from ppseg_jax.models import pretrained, setr
from ppseg_jax.models.setr import SETR
from ppseg_jax.runs import checkpoints, workdir
from ppseg_jax.runs.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained model.

  Attributes:
    model: the module.
    variables: its `params` and `batch_stats`, on the mesh.
    step: of the checkpoint that they are of.
    decay: of the averages that they are; 0: they are no averages.
  """

  model: SETR
  variables: dict
  step: int
  decay: float


def make(config: ml_collections.ConfigDict, num_classes: int) -> SETR:
  """The model that a resolved config describes."""
  patch = config.model.patch
  grid = (config.data.crop_height // patch, config.data.crop_width // patch)
  return setr.from_config(config.model, num_classes, grid, config.block)


def label_space(
    config: ml_collections.ConfigDict, folder: Path
) -> LabelSpace:
  """The classes of the run in `folder`, which holds them.

  Those of `config.data`, where the run is of before they were stored or there
  is none.
  """
  path = Workdir(folder).data
  stored = workdir.read_json(path) if path.exists() else {}
  space = stored.get("label_space")
  if isinstance(space, dict):
    return labels.from_json(space)
  return data.label_space(config.data)


def reads(config: ml_collections.ConfigDict) -> list[str]:
  """The schemes whose ciphertexts the model reads; none: plain images."""
  schemes = [config.scheme, config.model.form]  # may be FILE.py:NAME
  if (config.data.name == encrypted.NAME
      and encrypted.moves_blocks(config.scheme)):
    schemes.remove(config.scheme)  # its labels only a key's owner can place
  return sorted({get_scheme(name).name for name in schemes} - {"plain"})


def variables_of(state: dict) -> dict:
  """What a state predicts with: its averaged weights, if it keeps them."""
  return bare(state.get("ema", state))


def bare(state: dict) -> dict:
  """Of a state `params` and `batch_stats` alone."""
  return {name: state[name] for name in ("params", "batch_stats")}


def load(
    config: ml_collections.ConfigDict, folder: Path, num_classes: int,
    mesh: Mesh,
) -> Trained:
  """The last checkpoint of a run's folder; the averages, where it keeps them.

  Args:
    config: resolved; it may differ from the run's in what matters to training
      only.
    folder: of the run.
    num_classes: of the label space.
    mesh: where the variables go.

  Raises:
    UserError: where there is no checkpoint, or one of another model.
  """
  run = Workdir(folder)
  if not run.config.exists():
    raise UserError(
        f"workdir '{folder}' holds no trained model; train one with"
        " --mode=train or give another --workdir."
    )
  workdir.check_config(folder, config.to_dict(), ignore=workdir.TRAINING)
  decay = workdir.average_decay(folder)
  model = make(config, num_classes)
  shape = (1, config.data.crop_height, config.data.crop_width, 3)

  def variables():
    tree = model.init(jax.random.key(0), jnp.zeros(shape, jnp.uint8))
    return {"ema": tree} if decay else tree

  restored = None
  if run.checkpoints.is_dir():
    restored = checkpoints.restore_latest(
        checkpoints.open_manager(run.checkpoints),
        sharding.abstract_on(mesh, variables), partial=True,
    )
  if restored is None:
    raise UserError(
        f"workdir '{folder}' holds no finished checkpoint; run the training"
        " command again, it goes on where it stopped."
    )
  step, state = restored
  return Trained(model, state.get("ema", state), step, decay)


def predictor(
    folder: Path, num_classes: int, layers: tuple[int, ...] = ()
) -> Callable[[jax.Array], jax.Array | tuple[jax.Array, ...]]:
  """A run's model as images, uint8 [B, H, W, C], to logits [B, H, W, K].

  With `layers` to the encoder's features after each of them, [B, h, w, D].
  Under the run's own config, on every device alike. Raises UserError where
  there is no trained model.
  """
  path = Workdir(folder).config
  if not path.exists():
    raise UserError(
        f"'{folder}' holds no trained model; give the workdir of a run."
    )
  config = ml_collections.ConfigDict(workdir.read_json(path))
  trained = load(config, folder, num_classes, sharding.make_mesh(config.mesh))
  variables = jax.tree.map(distributed.whole, trained.variables)
  if not layers:
    return lambda images: trained.model.apply(variables, images)
  encoder = {"params": variables["params"]["encoder"]}
  return lambda images: trained.model.encoder.apply(encoder, images, layers)[1]


def export(
    config: ml_collections.ConfigDict, folder: Path, num_classes: int
) -> Path:
  """Writes the last checkpoint as `model.safetensors` to the run's folder."""
  trained = load(config, folder, num_classes, sharding.make_mesh(config.mesh))
  path = Workdir(folder).weights
  variables = jax.tree.map(distributed.whole, trained.variables)
  distributed.once(lambda: pretrained.export(path, trained.model, variables))
  return path
