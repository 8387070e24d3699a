"""Using a trained model: evaluation and prediction from its workdir."""

import itertools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from ppseg_jax import data, evaluate, sharding, viz
from ppseg_jax import train as training
from ppseg_jax.client import pictures
from ppseg_jax.data.folders import open_image
from ppseg_jax.encryption import encrypt, fresh_keys
from ppseg_jax.encryption.blocks import check_size
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


def predict(config: ml_collections.ConfigDict, folder: Path) -> int:
  """Segments every image of `config.predict.dir`; returns how many.

  With `predict.scheme` empty the images are taken as they are, that is as a
  client sent them; the labels have the true size where a ciphertext names it.
  Otherwise this process plays the client too: it resizes each to the training
  size and encrypts it under a fresh key, which it then forgets. Sizes may
  differ; each new one takes a compilation.

  Writes, for each image, `<stem>_ids.png` (train ids), `<stem>_colour.png` and
  `<stem>_overlay.png` to `workdir/predict`.
  """
  where = Path(config.predict.dir)
  if not config.predict.dir or not where.is_dir():
    raise UserError(
        f"predict.dir='{config.predict.dir}' is no folder; give one with"
        " images with --config.predict.dir=."
    )
  paths = sorted(
      path for path in where.iterdir()
      if path.suffix.lower() in Image.registered_extensions()
  )
  if not paths:
    raise UserError(f"predict.dir='{where}' holds no image file.")
  for one, two in itertools.pairwise(paths):
    if one.stem == two.stem:
      raise UserError(
          f"predict.dir='{where}': {one.name} and {two.name} would write the"
          " same files; rename one."
      )
  space, _ = data.SOURCES[config.data.name]
  mesh = sharding.make_mesh(config.mesh)
  model, variables, _ = load(config, folder, space.num_classes, mesh)
  for path in paths:  # all are looked at before the first result is written
    _read(config, path)
  segment = _make_segment(config, model)
  for path in paths:
    image, (height, width) = _read(config, path)
    seen, labels = (np.asarray(x)[:height, :width] for x in segment(
        variables, fresh_keys(1)[0], image
    ))
    out = folder / "predict"
    colours = space.colourise(labels)
    viz.save_png(out / f"{path.stem}_ids.png", labels)
    viz.save_png(out / f"{path.stem}_colour.png", colours)
    viz.save_png(out / f"{path.stem}_overlay.png", viz.overlay(seen, colours))
  return len(paths)


def _read(
    config: ml_collections.ConfigDict, path: Path
) -> tuple[np.ndarray, tuple[int, int]]:
  """A picture, uint8 [H, W, 3], and how much of it is true (height, width)."""
  opened = open_image(path)
  image = opened.convert("RGB")
  if config.predict.scheme:
    size = (config.data.width, config.data.height)
    image = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    return image, image.shape[:2]
  image = np.asarray(image)
  for unit in (config.block, config.model.patch):
    try:
      check_size(image.shape, unit)
    except UserError as error:
      raise UserError(f"{path}: {error}") from None
  # A ciphertext that the client did not write is taken as it is.
  if "ppseg_jax.format" not in opened.info:
    return image, image.shape[:2]
  return image, _true_size(config, path, opened)


def _true_size(
    config: ml_collections.ConfigDict, path: Path, cipher: Image.Image
) -> tuple[int, int]:
  """(height, width) without padding, by the text fields of a ciphertext.

  Raises UserError for a scheme or a block that the model does not read.
  """
  try:
    header = pictures.header_of(cipher)
  except UserError as error:
    raise UserError(f"{path} {error}") from None
  schemes = {config.scheme, config.model.form} - {"plain"}
  if header.scheme not in schemes:
    raise UserError(
        f"{path} is encrypted by '{header.scheme}', but this model reads"
        f" {', '.join(sorted(schemes)) or 'plain images'}; encrypt it by that,"
        " or use another model."
    )
  if header.block != config.block:
    raise UserError(
        f"{path} is encrypted in blocks of {header.block}, but this model reads"
        f" blocks of {config.block}; encrypt it with --block={config.block}."
    )
  return header.height, header.width


def _make_segment(config: ml_collections.ConfigDict, model: SETR) -> Callable:
  """The jitted (variables, key, image) -> (what the model saw, labels)."""
  def segment(variables, key, image):
    if config.predict.scheme:
      image = encrypt(config.predict.scheme, key, image, config.block)
    window = evaluate.window_of(config, image.shape[:2])
    logits = evaluate.predict_logits(
        model, variables, image[None], window, config.eval.stride,
        config.eval.windows,
    )
    return image, logits[0].argmax(-1).astype(jnp.uint8)

  return jax.jit(segment)
