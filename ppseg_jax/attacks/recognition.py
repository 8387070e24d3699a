"""How well a segmenter trained on plain images reads a reconstruction.

SSIM can flatter a picture in which nothing can be told, and belittle one in
which all can: this asks a model that has learned to tell.
"""

import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from ppseg_jax import metrics, sharding
from ppseg_jax.data.labels import LabelSpace
from ppseg_jax.errors import UserError
from ppseg_jax.runs import model as models
from ppseg_jax.windows import predict_logits, windows_of

FIGURES = ("miou", "pixel_accuracy", "class_iou")  # of `metrics.summarise`


def load(
    workdir: str, space: LabelSpace, data_name: str
) -> Callable[[np.ndarray, np.ndarray], dict]:
  """A function (images, labels) -> FIGURES, as fractions.

  Images, uint8 [B, H, W, 3], and labels, uint8 [B, H, W], are resized to those
  of the workdir's run, and read by windows where it was trained on crops.

  Raises UserError where there is no model, or one not trained on plain images
  of the same label space.
  """
  path = Path(workdir) / "config.json"
  if not path.is_file():
    raise UserError(
        f"recognition.workdir='{workdir}' holds no trained model; train one"
        " with ppseg_jax.main --config=configs/setr_plain.py, or leave the"
        " field empty."
    )
  config = ml_collections.ConfigDict(json.loads(path.read_text()))
  if config.scheme != "plain" or config.data.name != data_name:
    raise UserError(
        f"recognition.workdir='{workdir}' holds a model of scheme"
        f" '{config.scheme}' and data '{config.data.name}'; 'plain' and"
        f" '{data_name}' are needed."
    )
  trained_on = models.label_space(config, Path(workdir))
  if trained_on.names != space.names:
    raise UserError(
        f"recognition.workdir='{workdir}' holds a model of the classes"
        f" {', '.join(trained_on.names)}, but the data has"
        f" {', '.join(space.names)}; give a model of the same classes."
    )
  size = (config.data.height, config.data.width)
  windows = windows_of(config)
  trained = models.load(
      config, Path(workdir), space.num_classes, sharding.make_mesh(config.mesh)
  )

  @jax.jit
  def predict(variables: dict, images: jax.Array) -> jax.Array:
    return predict_logits(trained.model, variables, images, windows).argmax(-1)

  def resize(image: np.ndarray, how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size[::-1], how))

  def read(images: np.ndarray, labels: np.ndarray) -> dict:
    total = np.zeros((space.num_classes,) * 2, np.int64)
    for image, label in zip(images, labels, strict=True):
      image = resize(image, Image.Resampling.BILINEAR)
      label = resize(label, Image.Resampling.NEAREST)
      found = predict(trained.variables, image[None])
      total += np.asarray(metrics.confusion(
          jnp.asarray(label)[None], found, space.num_classes
      ))
    figures = metrics.summarise(total, space.names)
    return {name: figures[name] for name in FIGURES}

  return read
