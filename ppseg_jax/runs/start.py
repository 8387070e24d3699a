"""Starting a training from what another one has learnt."""

import re
from pathlib import Path

import flax.traverse_util
import jax
import ml_collections

from ppseg_jax.errors import UserError
from ppseg_jax.models.adapt import adapt_variables
from ppseg_jax.runs import checkpoints, workdir


def start_from(
    config: ml_collections.ConfigDict, key: jax.Array, fresh: dict,
    abstract: dict,
) -> tuple[dict, dict]:
  """The variables that `config.start` asks for, on the mesh, and their origin.

  They are those of `start.workdir`, the averaged ones where that run keeps
  averages; without one, `fresh`, into which pretrained weights may have been
  put. What `start.fresh` names (`embed,head`, separated by commas; `encoder/`
  may be left out) is taken from `fresh` as well, and may have another shape in
  the run, or be in one of the two models only. With `start.adapt` the patch
  embedding is transformed by the key that all images share (Sueyoshi et al.,
  arXiv 2507.12730).

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
  named = _patterns(config.start.fresh)

  def is_fresh(name: str) -> bool:
    return any(pattern.match(name) for pattern in named.values())

  def absent(stored: set[str]) -> frozenset[str]:
    names = stored | whole.keys()
    for part, pattern in named.items():
      if not any(map(pattern.match, names)):
        raise UserError(
            f"start.fresh='{config.start.fresh}': no parameter is called"
            f" '{part}'; head, embed or pos_embed, for example."
        )
    return frozenset(filter(is_fresh, names))

  wanted = flax.traverse_util.unflatten_dict(
      {name: leaf for name, leaf in whole.items() if not is_fresh(name)},
      sep="/",
  )
  restored = None
  if (folder / "checkpoints").is_dir():
    manager = checkpoints.open_manager(folder, read_only=True)
    restored = checkpoints.restore_latest(
        manager, {"ema": wanted} if workdir.average_decay(folder) else wanted,
        partial=True, absent=absent,
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


def _patterns(text: str) -> dict[str, re.Pattern[str]]:
  """What each part of `start.fresh` matches: names of parameters."""
  parts = filter(None, (part.strip() for part in text.split(",")))
  return {
      part: re.compile(
          rf"\w+/(encoder/)?{re.escape(part.removeprefix('encoder/'))}(/|$)"
      ) for part in parts
  }
