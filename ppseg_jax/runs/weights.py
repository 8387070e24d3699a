"""The class weights of a run, made once and kept in its folder."""

from pathlib import Path

import ml_collections

from ppseg_jax import class_weights, distributed
from ppseg_jax.data.pipeline import Source
from ppseg_jax.errors import UserError
from ppseg_jax.runs import workdir


def with_weights(
    config: ml_collections.ConfigDict, path: Path, source: Source
) -> ml_collections.ConfigDict:
  """The config with numbers in `loss.class_weights`, also where it names a way.

  Numbers that are made here are written to `path`, and read from there when the
  run goes on; by one process for all.

  Raises:
    UserError: where what is stored is of other classes, or no pixel has one.
  """
  method = class_weights.method_of(config)
  if not method:
    return config
  weights = distributed.once(lambda: _weights(method, path, source))
  config = config.copy_and_resolve_references()
  config.loss.class_weights = tuple(weights)
  return config


def _weights(method: str, path: Path, source: Source) -> list[float]:
  names = source.label_space.names
  if path.exists():
    stored = workdir.read_json(path)
    weights = stored.get("weights", {})
    if stored.get("method") != method or tuple(weights) != names:
      raise UserError(
          f"{path} does not hold the weights of {method} for the classes of"
          f" '{source.label_space.name}'; give another --workdir."
      )
    return list(weights.values())
  pixels, around = class_weights.count(source)
  if not pixels.any():
    raise UserError(
        f"loss.class_weights={method}: no pixel of the training images has a"
        " class, all are void; mend the labels."
    )
  weights = class_weights.METHODS[method](pixels, around).tolist()
  workdir.write_json(path, {
      "method": method, "weights": dict(zip(names, weights, strict=True))
  })
  return weights
