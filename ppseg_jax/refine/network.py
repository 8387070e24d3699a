"""The client's network: small, fully convolutional, of any image size."""

import json
from pathlib import Path

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ppseg_jax import files
from ppseg_jax.errors import UserError

MAX_PARAMETERS = 100_000


class Refiner(nn.Module):
  """Plain images and the cloud's logits to finer logits, float32 [B, H, W, K].

  Convolutions of 3x3 at 1 / `factor` of the size, on what folds every
  `factor` x `factor` pixels into channels: all pixels are read, and a pixel of
  its own comes out for each, at a quarter of the cost for factor 2. Before
  training the network returns the cloud's labels.

  Attributes:
    num_classes: K.
    width: channels.
    layers: 3x3 convolutions.
    factor: see above; divides height and width.
    reads_logits: if not, the image is all that is read: the network alone.
  """

  num_classes: int
  width: int
  layers: int
  factor: int
  reads_logits: bool = True

  @nn.compact
  def __call__(self, images: jax.Array, logits: jax.Array) -> jax.Array:
    x = _fold(images.astype(jnp.float32) / 127.5 - 1, self.factor)
    if self.reads_logits:
      window = (self.factor, self.factor)
      probabilities = nn.avg_pool(nn.softmax(logits), window, window)
      x = jnp.concatenate([x, probabilities], -1)
    for i in range(self.layers):
      y = nn.relu(nn.Conv(self.width, (3, 3), name=f"conv{i}")(x))
      x = x + y if i else y
    x = nn.Dense(
        self.num_classes * self.factor**2, name="out",
        kernel_init=nn.initializers.zeros,
    )(x)
    x = _unfold(x, self.factor)
    return x + nn.log_softmax(logits) if self.reads_logits else x


def _fold(x: jax.Array, factor: int) -> jax.Array:
  """[B, H, W, C] -> [B, H / factor, W / factor, factor * factor * C]."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // factor, factor, w // factor, factor, c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(
      b, h // factor, w // factor, factor**2 * c
  )


def _unfold(x: jax.Array, factor: int) -> jax.Array:
  """The inverse of `_fold`."""
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, factor, factor, c // factor**2)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(
      b, h * factor, w * factor, c // factor**2
  )


def count_parameters(params: dict) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def save(path: Path, params: dict) -> None:
  """Writes parameters as NumPy's .npz, an array a path."""
  flat = flax.traverse_util.flatten_dict(params, sep="/")
  with files.whole(path, ".tmp.npz") as temporary:  # savez adds an .npz else
    np.savez(temporary, **{name: np.asarray(x) for name, x in flat.items()})


def load(path: Path) -> dict:
  """What `save` wrote; UserError where it did not."""
  if not path.is_file():
    raise UserError(
        f"'{path}' does not exist; --mode=refine writes it."
    )
  with np.load(path) as stored:
    return flax.traverse_util.unflatten_dict(dict(stored), sep="/")


_MARK = "ppseg_jax_refiner"
_SETTINGS = ("width", "layers", "factor")


def export(
    path: Path, net: Refiner, params: dict, names: tuple[str, ...]
) -> None:
  """Writes one network for clients: a safetensors file that says all of it.

  Args:
    path: of the file.
    net: the network.
    params: its parameters.
    names: of the classes.
  """
  flat = flax.traverse_util.flatten_dict(params, sep="/")
  settings = {name: str(getattr(net, name)) for name in _SETTINGS}
  with files.whole(path) as temporary:
    save_file(
        {name: np.asarray(x) for name, x in flat.items()}, temporary,
        settings | {_MARK: "1", "classes": json.dumps(list(names))},
    )


def load_exported(path: Path) -> tuple[Refiner, dict, tuple[str, ...]]:
  """(network, parameters, names of the classes) of what `export` wrote.

  Raises UserError where it did not.
  """
  try:
    with safe_open(path, "np") as stored:
      settings = stored.metadata() or {}
      flat = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    names = tuple(map(str, json.loads(settings["classes"])))
    net = Refiner(len(names), *(int(settings[name]) for name in _SETTINGS))
    params = flax.traverse_util.unflatten_dict(flat, sep="/")
    if settings[_MARK] != "1" or count_parameters(params) >= MAX_PARAMETERS:
      raise ValueError
    shapes = jax.eval_shape(
        net.init, jax.random.key(0),
        jax.ShapeDtypeStruct((1, net.factor, net.factor, 3), jnp.uint8),
        jax.ShapeDtypeStruct((1, net.factor, net.factor, len(names)), float),
    )["params"]
    if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, shapes):
      raise ValueError
  except (OSError, SafetensorError, ValueError, KeyError, TypeError):
    raise UserError(
        f"'{path}' is no refiner; give the refiner.safetensors that"
        " --mode=refine writes to a run's folder."
    ) from None
  return net, params, names
