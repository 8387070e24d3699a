"""The device mesh, and where parameters and batches lie on it."""

import re
from collections.abc import Callable

import jax
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ppseg_jax import trees
from ppseg_jax.errors import UserError

AXES = ("data", "fsdp", "model")

# Parameter path -> mesh axes of its dimensions; what matches none is on every
# device. Heads and MLP columns go over `model` (Megatron's cut: one sum after
# proj, one after down), the other large dimension over `fsdp`.
RULES = (
    (r"qkv/kernel", ("fsdp", None, "model", None)),
    (r"qkv/bias", (None, "model", None)),
    (r"proj/kernel", ("model", None, "fsdp")),
    (r"up/kernel", ("fsdp", "model")),
    (r"up/bias", ("model",)),
    (r"down/kernel", ("model", "fsdp")),
    (r"(embed/linear|\w*conv1)/kernel", ("fsdp", None)),
    (r"\w*conv\d/kernel", (None, None, "fsdp", None)),
)


def make_mesh(config: ml_collections.ConfigDict) -> Mesh:
  """The mesh of `config.data|fsdp|model`; one of them may be -1, for the rest.

  Raises UserError where the sizes do not fit the number of devices.
  """
  sizes = [config[axis] for axis in AXES]
  devices = jax.device_count()
  known = int(np.prod([size for size in sizes if size != -1]))
  if sizes.count(-1) == 1 and known > 0 and devices % known == 0:
    sizes[sizes.index(-1)] = devices // known
  if min(sizes) < 1 or int(np.prod(sizes)) != devices:
    given = ", ".join(f"mesh.{axis}={config[axis]}" for axis in AXES)
    raise UserError(
        f"{given} does not fit {devices} device(s): the product must be the"
        " number of devices; set one of them to -1 to fill in."
    )
  return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * 3)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Of arrays [B, ...]: the batch over `data` and `fsdp`."""
  return NamedSharding(mesh, P(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, P())


def abstract_on(mesh: Mesh, function: Callable, *args) -> dict:
  """What `function(*args)` would return, as shapes, dtypes and shardings.

  By RULES: optimizer moments lie where their parameters do, since their paths
  end alike. A dimension that its axis does not divide stays whole.
  """
  def place(path, leaf):
    name = trees.path_name(path)
    spec = P()
    for pattern, axes in RULES:
      if re.search(rf"(^|/){pattern}$", name) and len(axes) == leaf.ndim:
        spec = P(*(
            axis if axis and size % mesh.shape[axis] == 0 else None
            for axis, size in zip(axes, leaf.shape, strict=True)
        ))
    return jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec)
    )

  return jax.tree_util.tree_map_with_path(
      place, jax.eval_shape(function, *args)
  )


def put_batch(batch: dict, mesh: Mesh) -> dict:
  """This process's part of a batch, NumPy [b, ...] each, onto the mesh."""
  sharding = batch_sharding(mesh)
  return {
      name: jax.make_array_from_process_local_data(sharding, value)
      for name, value in batch.items()
  }
