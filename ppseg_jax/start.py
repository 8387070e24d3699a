"""Starting a training from what another one has learnt."""

from pathlib import Path

import jax
import ml_collections

from ppseg_jax import checkpoints, trees, workdir
from ppseg_jax.encryption.model_side import adapt_variables
from ppseg_jax.errors import UserError


def start_from(
    config: ml_collections.ConfigDict, key: jax.Array, fresh: dict,
    abstract: dict,
) -> dict:
  """The variables of `config.start.workdir`, on the mesh.

  They are the averaged ones where that run keeps averages.
  Those whose path begins with `start.fresh` are taken from `fresh` instead.
  With `start.adapt` the patch embedding is transformed by the key that all
  images share (Sueyoshi et al., arXiv 2507.12730).

  Args:
    config: the run's.
    key: typed key [], the shared one.
    fresh: `params` and `batch_stats` as they are initialised.
    abstract: their shapes, dtypes and shardings.

  Returns:
    Variables of the same structure.

  Raises:
    UserError: where there is no checkpoint, or one of another model.
  """
  folder = Path(config.start.workdir)
  restored = None
  if (folder / "checkpoints").is_dir():
    manager = checkpoints.open_manager(folder, read_only=True)
    restored = checkpoints.restore_latest(
        manager, {"ema": abstract} if _averages(folder) else abstract,
        partial=True,
    )
  if restored is None:
    raise UserError(
        f"start.workdir='{folder}' holds no trained model to start from; train"
        " one there or give another."
    )
  variables = restored[1].get("ema", restored[1])
  if config.start.adapt:
    variables = adapt_variables(variables, config.scheme, key, config.block)

  def choose(path, new, old):
    name = trees.path_name(path[1:])
    prefix = config.start.fresh
    return new if prefix and name.startswith(prefix) else old

  chosen = jax.tree_util.tree_map_with_path(choose, fresh, variables)
  return jax.device_put(
      chosen, jax.tree.map(lambda leaf: leaf.sharding, abstract)
  )


def _averages(folder: Path) -> bool:
  path = folder / "config.json"
  config = workdir.read_json(path) if path.exists() else {}
  return bool(config.get("optim", {}).get("ema"))
