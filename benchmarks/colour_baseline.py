"""How far colour alone gets: a linear classifier on single pixels.

python -m benchmarks.colour_baseline --config=configs/setr_plain.py
python -m benchmarks.colour_baseline --config=configs/setr_plain.py:camvid \
    --config.data.dir=/data/camvid

Softmax regression on the RGB of training pixels, once as they are and once with
all classes weighted alike, tested on the whole held-out split. Prints mIoU and
pixel accuracy of both; a data set is worth training on if a network is far
above them. Takes about a minute on 2 cores.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app
from ml_collections import config_flags

from ppseg_jax import config as config_checks
from ppseg_jax import data, metrics
from ppseg_jax.data.labels import VOID

_CONFIG = config_flags.DEFINE_config_file("config")
_PIXELS_PER_IMAGE = 1000
_IMAGES = 200
_STEPS = 1000


def features(colours: np.ndarray) -> np.ndarray:
  """uint8 [..., 3] -> float32 [..., 3] in -1 to 1."""
  return colours.astype(np.float32) / 127.5 - 1


@functools.partial(jax.jit, static_argnames="classes")
def fit(x: jax.Array, y: jax.Array, weight: jax.Array, classes: int) -> dict:
  """Softmax regression of y, int32 [N], on x, [N, 3]; weight [N]."""
  optimizer = optax.adam(0.05)
  target = jax.nn.one_hot(y, classes)

  def loss_fn(params):
    logits = x @ params["w"] + params["b"]
    loss = optax.softmax_cross_entropy(logits, target)
    return (loss * weight).sum() / weight.sum()

  def step(carry, _):
    params, state = carry
    updates, state = optimizer.update(jax.grad(loss_fn)(params), state)
    return (optax.apply_updates(params, updates), state), None

  params = {"w": jnp.zeros((3, classes)), "b": jnp.zeros(classes)}
  carry = (params, optimizer.init(params))
  return jax.lax.scan(step, carry, length=_STEPS)[0][0]


def main(_):
  config = config_checks.resolve(_CONFIG.value)
  train, val = (data.load(config.data, split) for split in ("train", "val"))
  names = train.label_space.names
  rng = np.random.default_rng(config.seed)
  x, y = [], []
  for index in range(min(_IMAGES, len(train))):
    image, labels = train[index]
    at = np.flatnonzero(labels != VOID)
    at = rng.choice(at, min(_PIXELS_PER_IMAGE, len(at)), replace=False)
    x.append(features(image.reshape(-1, 3)[at]))
    y.append(labels.ravel()[at])
  x, y = np.concatenate(x), np.concatenate(y).astype(np.int32)
  present, y = np.unique(y, return_inverse=True)  # classes with a pixel
  counts = np.bincount(y)
  for kind, weight in (("as they are", np.ones(len(y))),
                       ("weighted alike", 1 / counts[y])):
    fitted = fit(x, y, weight.astype(np.float32), len(present))
    params = jax.tree.map(np.asarray, fitted)
    total = np.zeros((len(names),) * 2, np.int64)
    for index in range(len(val)):
      image, labels = val[index]
      logits = features(image) @ params["w"] + params["b"]
      guess = present[logits.argmax(-1)]
      total += np.asarray(
          metrics.confusion(labels[None], guess[None], len(names))
      )
    result = metrics.summarise(total, names)
    print(f"classes {kind}: mIoU {result['miou']:.4f}, pixel accuracy"
          f" {result['pixel_accuracy']:.4f} on {len(val)} images")


if __name__ == "__main__":
  app.run(main)
