"""Using a trained model: evaluation and export from its workdir."""

from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections

from ppseg_jax import data, evaluate, sharding
from ppseg_jax import train as training
from ppseg_jax.errors import UserError
from ppseg_jax.models import pretrained
from ppseg_jax.models.adapt import adapt_variables
from ppseg_jax.models.setr import SETR
from ppseg_jax.runs import checkpoints, workdir


def load(
    config: ml_collections.ConfigDict, folder: Path, num_classes: int, mesh
) -> tuple[SETR, dict, int]:
  """The model of a workdir: (model, variables on the mesh, step).

  Where the run keeps averages the variables are those; `config.optim.ema` is
  set to what it is there. Raises UserError where there is no checkpoint, or one
  of another model.
  """
  if not (folder / "config.json").exists():
    raise UserError(
        f"workdir '{folder}' holds no trained model; train one with"
        " --mode=train or give another --workdir."
    )
  workdir.check_config(folder, config.to_dict(), ignore=workdir.TRAINING)
  config.optim.ema = workdir.average_decay(folder)
  model = training.make_model(config, num_classes)
  shape = (1, config.data.crop_height, config.data.crop_width, 3)

  def variables():
    tree = model.init(jax.random.key(0), jnp.zeros(shape, jnp.uint8))
    return {"ema": tree} if config.optim.ema else tree

  abstract = sharding.abstract_on(mesh, variables)
  manager = checkpoints.open_manager(folder, read_only=True)
  restored = checkpoints.restore_latest(manager, abstract, partial=True)
  if restored is None:
    raise UserError(
        f"workdir '{folder}' holds no finished checkpoint; run the training"
        " command again, it goes on where it stopped."
    )
  step, state = restored
  return model, state.get("ema", state), step


def record_name(config: ml_collections.ConfigDict) -> str:
  """What an evaluation's files are called by: scheme, key plan and so on.

  What is as in training is left out, and so is a test of all images.
  """
  plan = config.eval.key_plan
  return "_".join(filter(None, (
      evaluate.eval_scheme(config),
      plan if plan != config.key_plan else "",
      "adapted" if config.eval.adapt else "",
      config.eval.split if config.eval.split != "val" else "",
      "whole" if config.eval.whole else "",
      f"{config.eval.images}images" if config.eval.images else "",
  )))


def evaluate_trained(config: ml_collections.ConfigDict, folder: Path) -> dict:
  """Evaluates the last checkpoint of a workdir under `config.eval`.

  Writes `eval_<record_name>.json` and the panels beside it; the training's own
  `result.json` stays as it is.
  """
  name = record_name(config)
  result = measure(config, folder, folder / f"panels_{name}")
  result["versions"] = workdir.versions()
  result["config"] = config.to_dict()
  if jax.process_index() == 0:
    workdir.write_json(folder / f"eval_{name}.json", result)
  return result


def measure(
    config: ml_collections.ConfigDict, folder: Path, panels: Path | None = None
) -> dict:
  """Figures and protocol of the last checkpoint under `config.eval`."""
  source = data.load(config.data, config.eval.split)
  mesh = sharding.make_mesh(config.mesh)
  training.check_batch(config, mesh)
  plans = (config.key_plan, config.eval.key_plan)
  ignore = tuple(x for x in workdir.TRAINING if x != "seed")
  if "shared" in plans:  # the seed is then the secret the model was trained on
    workdir.check_config(folder, config.to_dict(), ignore=ignore)
  model, variables, step = load(
      config, folder, source.label_space.num_classes, mesh
  )
  eval_step = evaluate.make_eval_step(
      config, model, mesh, training.key_root(config)
  )
  adapted = variables
  if config.eval.adapt:
    adapted = adapt_variables(
        variables, evaluate.eval_scheme(config), training.shared_key(config),
        config.block,
    )
  result = evaluate.evaluate(
      config, eval_step, adapted, source, mesh, panels=panels
  )
  result["protocol"] = training.protocol(config, step, variables)
  return result


def export(config: ml_collections.ConfigDict, folder: Path) -> Path:
  """Writes the last checkpoint as `model.safetensors` to the workdir."""
  space, _ = data.SOURCES[config.data.name]
  mesh = sharding.make_mesh(config.mesh)
  model, variables, _ = load(config, folder, space.num_classes, mesh)
  path = folder / "model.safetensors"
  pretrained.export(path, model, variables)
  return path
