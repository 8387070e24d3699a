"""Prediction with a trained model, on a folder of images."""

import itertools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from ppseg_jax import data, evaluate, sharding, viz
from ppseg_jax.client import pictures
from ppseg_jax.data.folders import open_image
from ppseg_jax.encryption import encrypt, fresh_keys
from ppseg_jax.encryption.blocks import check_size
from ppseg_jax.errors import UserError
from ppseg_jax.models.setr import SETR
from ppseg_jax.runs import model as models


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
  trained = models.load(config, folder, space.num_classes, mesh)
  for path in paths:  # all are looked at before the first result is written
    _read(config, path)
  segment = _make_segment(config, trained.model)
  for path in paths:
    image, (height, width) = _read(config, path)
    seen, labels = (np.asarray(x)[:height, :width] for x in segment(
        trained.variables, fresh_keys(1)[0], image
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
  schemes = {config.scheme, config.model.canonical} - {"plain"}
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
    logits = evaluate.predict_logits(
        model, variables, image[None], evaluate.windows_of(config)
    )
    return image, logits[0].argmax(-1).astype(jnp.uint8)

  return jax.jit(segment)
