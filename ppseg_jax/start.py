"""Starting a training from what another one has learnt."""

import re
from pathlib import Path

import flax.traverse_util
import jax
import ml_collections

from ppseg_jax import checkpoints, workdir
from ppseg_jax.encryption.model_side import adapt_variables
from ppseg_jax.errors import UserError


def start_from(
    config: ml_collections.ConfigDict, key: jax.Array, fresh: dict,
    abstract: dict,
) -> tuple[dict, dict]:
  """The variables that `config.start` asks for, on the mesh, and their origin.

  They are those of `start.workdir`, the averaged ones where that run keeps
  averages; without one, `fresh`, into which pretrained weights may have been
  put. What `start.fresh` names (`embed,head`, separated by commas; `encoder/`
  may be left out) is taken from `fresh` as well, and may have another shape in
  the run. With `start.adapt` the patch embedding is transformed by the key that
  all images share (Sueyoshi et al., arXiv 2507.12730).

  Args:
    config: the run's.
    key: typed key [], the shared one.
    fresh: `params` and `batch_stats` as they are initialised.
    abstract: their shapes, dtypes and shardings.

  Returns:
    (variables of the same structure; what they are of: the fields of
    `config.start` and, of a run, step and SHA-256 of the checkpoint).

  Raises:
    UserError: where there is no checkpoint, one of another model, or nothing
      that `start.fresh` names.
  """
  variables, origin = fresh, config.start.to_dict()
  if config.start.workdir:
    variables, checkpoint = _of_a_run(config, fresh, abstract)
    origin |= checkpoint
  if config.start.adapt:
    variables = adapt_variables(variables, config.scheme, key, config.block)
  return jax.device_put(
      variables, jax.tree.map(lambda leaf: leaf.sharding, abstract)
  ), origin


def _of_a_run(
    config: ml_collections.ConfigDict, fresh: dict, abstract: dict
) -> tuple[dict, dict]:
  folder = Path(config.start.workdir)
  whole = flax.traverse_util.flatten_dict(abstract, sep="/")
  is_fresh = _named(config.start.fresh, whole)
  wanted = flax.traverse_util.unflatten_dict(
      {name: leaf for name, leaf in whole.items() if name not in is_fresh},
      sep="/",
  )
  restored = None
  if (folder / "checkpoints").is_dir():
    manager = checkpoints.open_manager(folder, read_only=True)
    restored = checkpoints.restore_latest(
        manager, {"ema": wanted} if workdir.average_decay(folder) else wanted,
        partial=True, absent=is_fresh,
    )
  if restored is None:
    raise UserError(
        f"start.workdir='{folder}' holds no trained model to start from; train"
        " one there or give another."
    )
  step, variables = restored
  variables = variables.get("ema", variables)
  old = flax.traverse_util.flatten_dict(variables, sep="/")
  new = flax.traverse_util.flatten_dict(fresh, sep="/", keep_empty_nodes=True)
  return flax.traverse_util.unflatten_dict(new | old, sep="/"), {
      "step": step, "checkpoint_sha256": checkpoints.digest(variables),
  }


def _named(text: str, leaves: dict) -> frozenset[str]:
  """Names of the leaves that `start.fresh` means."""
  found = set()
  for part in filter(None, (part.strip() for part in text.split(","))):
    short = part.removeprefix("encoder/")
    pattern = rf"\w+/(encoder/)?{re.escape(short)}(/|$)"
    mine = {name for name in leaves if re.match(pattern, name)}
    if not mine:
      raise UserError(
          f"start.fresh='{text}': no parameter is called '{part}'; head, embed"
          " or pos_embed, for example."
      )
    found |= mine
  return frozenset(found)
