"""The device mesh, and where parameters and batches lie on it."""

import re
import sys
from collections.abc import Callable

import jax
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ppseg_jax import trees
from ppseg_jax.errors import UserError
from ppseg_jax.models.vit import BLOCK_AXES

AXES = ("data", "fsdp", "model")

# Bytes up to which an array is not worth cutting.
SMALL = 64 * 1024


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

  The encoder's blocks lie as `vit.BLOCK_AXES` says; of any other array that is
  not SMALL, whatever it is called, the largest dimension goes over `fsdp`.
  Optimizer moments lie where their parameters do, since their paths end alike
  and their shapes are the same. A dimension that its axis does not divide stays
  whole; a warning names the arrays that are whole on every device thereby.
  """
  whole = []

  def place(path, leaf):
    name = trees.path_name(path)
    spec = _spec(name, leaf, mesh)
    size = leaf.size * leaf.dtype.itemsize
    if size > SMALL and all(mesh.shape[axis] == 1 for axis in spec if axis):
      whole.append(name)
    return jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec)
    )

  tree = jax.tree_util.tree_map_with_path(
      place, jax.eval_shape(function, *args)
  )
  if whole and mesh.shape["fsdp"] > 1 and jax.process_index() == 0:
    more = f" and {len(whole) - 3} more" if len(whole) > 3 else ""
    print(
        f"warning: mesh.fsdp={mesh.shape['fsdp']} divides no dimension of"
        f" {', '.join(whole[:3])}{more}, which every device holds whole;"
        " another mesh.fsdp saves memory.",
        file=sys.stderr,
    )
  return tree


def _spec(name: str, leaf: jax.ShapeDtypeStruct, mesh: Mesh) -> P:
  """The mesh axis of each dimension of an array called by its path."""
  def fits(axis: str | None, size: int) -> bool:
    return axis is not None and size % mesh.shape[axis] == 0

  found = re.search(r"(?:^|/)encoder/block\d+/(\w+/\w+)$", name)
  axes = BLOCK_AXES.get(found[1]) if found else None
  if axes and len(axes) == leaf.ndim:
    return P(*(
        axis if fits(axis, size) else None
        for axis, size in zip(axes, leaf.shape, strict=True)
    ))
  if leaf.size * leaf.dtype.itemsize <= SMALL:
    return P()
  largest = max(
      (i for i, size in enumerate(leaf.shape) if fits("fsdp", size)),
      key=lambda i: leaf.shape[i], default=None,
  )
  return P(*("fsdp" if i == largest else None for i in range(leaf.ndim)))


def rows_here(mesh: Mesh, batch_size: int) -> np.ndarray:
  """The rows of a batch that this process's devices hold, ascending, int [b].

  Whatever the order of the devices: neighbouring rows may be on other hosts,
  and with an axis `model` across hosts a row is on several.
  """
  size = batch_size // _parts(mesh)
  parts = _parts_here(batch_sharding(mesh), _parts(mesh))
  return (parts[:, None] * size + np.arange(size)).ravel()


def put_batch(batch: dict, mesh: Mesh) -> dict:
  """The rows of `rows_here`, NumPy [b, ...] each, as batches on the mesh."""
  sharding = batch_sharding(mesh)
  parts = _parts_here(sharding, _parts(mesh))

  def put(rows: np.ndarray) -> jax.Array:
    size = len(rows) // len(parts)

    def part(index: tuple[slice, ...]) -> np.ndarray:
      at = np.searchsorted(parts, (index[0].start or 0) // size) * size
      return rows[at : at + size]

    shape = (_parts(mesh) * size, *rows.shape[1:])
    return jax.make_array_from_callback(shape, sharding, part)

  return {name: put(rows) for name, rows in batch.items()}


def _parts(mesh: Mesh) -> int:
  """That a batch is cut into."""
  return mesh.shape["data"] * mesh.shape["fsdp"]


def _parts_here(sharding: NamedSharding, parts: int) -> np.ndarray:
  """Which of them this process's devices hold, ascending, each once."""
  found = sharding.addressable_devices_indices_map((parts,))
  return np.unique([index[0].start or 0 for index in found.values()])
