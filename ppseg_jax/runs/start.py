"""The state that a training begins with."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from ppseg_jax import trees
from ppseg_jax.encryption import key_from_seed
from ppseg_jax.encryption.keys import derive
from ppseg_jax.errors import UserError
from ppseg_jax.models import pretrained
from ppseg_jax.models.adapt import adapted
from ppseg_jax.models.setr import SETR
from ppseg_jax.runs import checkpoints, keys, workdir
from ppseg_jax.runs.model import bare
from ppseg_jax.runs.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Start:
  """A first state, and where it is from.

  Attributes:
    step: steps done before.
    state: on the mesh.
    resumed: whether it is of a checkpoint of the run itself.
    read: what was read of a weight file, if one was.
    origin: of another run or an adaptation, for the record; {} without.
  """

  step: int
  state: dict
  resumed: bool = False
  read: pretrained.Report | None = None
  origin: dict = dataclasses.field(default_factory=dict)


def make_init(
    config: ml_collections.ConfigDict, model: SETR, optimizer
) -> Callable[[], dict]:
  """() -> a fresh train state: params, batch_stats, opt_state and step.

  With `config.optim.ema` also `ema`, the averages of params and batch_stats.
  """
  shape = (1, config.data.crop_height, config.data.crop_width, 3)

  def init():
    key = derive(key_from_seed(config.seed), keys.INIT)
    variables = model.init(key, jnp.zeros(shape, jnp.uint8))
    variables = {
        "params": variables["params"],
        "batch_stats": variables.get("batch_stats", {}),
    }
    state = {
        **variables,
        "opt_state": optimizer.init(variables["params"]),
        "step": jnp.zeros((), jnp.int32),
    }
    if config.optim.ema:
      state["ema"] = jax.tree.map(jnp.zeros_like, variables)
    return state

  return init


def on_host(init: Callable[[], dict]) -> dict:
  """What `init` gives, as NumPy arrays, computed by this process's own host."""
  with jax.default_device(jax.local_devices(backend="cpu")[0]):
    return jax.tree.map(np.asarray, jax.jit(init)())


def _has_host() -> bool:
  try:
    return bool(jax.local_devices(backend="cpu"))
  except RuntimeError:  # JAX_PLATFORMS names no cpu
    return False


def fresh_state(init: Callable[[], dict], abstract: dict) -> dict:
  """What `init` gives, where `abstract`, of `sharding.abstract_on`, says.

  For other devices the host computes it, if JAX may use that as well: XLA takes
  a minute and more to compile so many random arrays for a GPU. Each process's
  host then holds all of it for a moment.
  """
  if jax.default_backend() == "cpu" or not _has_host():
    place = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(init, out_shardings=place)()
  return pretrained.put(abstract, trees.named_leaves(on_host(init)))


def first_state(
    config: ml_collections.ConfigDict,
    model: SETR,
    init: Callable[[], dict],
    abstract: dict,
    manager: ocp.CheckpointManager,
) -> Start:
  """Where a training goes on or begins.

  In this order: the newest checkpoint of the run itself, and nothing else then;
  else fresh values, in place of which go those of the run `start.workdir`, or
  those of the file `model.pretrained`, as far as these have them. With
  `start.adapt` the patch embedding is then transformed by the shared key.
  Averages begin at the weights that the training begins at.

  Args:
    config: resolved.
    model: that it describes.
    init: of `make_init`.
    abstract: shapes, dtypes and shardings of what it returns.
    manager: of the run's checkpoints.

  Raises:
    UserError: where what is to be started from cannot be read or does not fit.
  """
  restored = checkpoints.restore_latest(manager, abstract)
  if restored:
    return Start(*restored, resumed=True)
  loaded = load_pretrained(config, model, abstract)
  state = fresh_state(init, abstract)
  if loaded:
    state = pretrained.put(state, loaded[0])
  origin = {}
  if config.start.workdir or config.start.adapt:
    variables, origin = start_from(
        config, keys.shared_key(config.seed), bare(state), bare(abstract)
    )
    state |= variables
  if config.optim.ema:
    state["ema"] = jax.tree.map(jnp.copy, bare(state))
  return Start(0, state, read=loaded and loaded[1], origin=origin)


def load_pretrained(
    config: ml_collections.ConfigDict, model: SETR, variables: dict
) -> tuple[dict[str, np.ndarray], pretrained.Report] | None:
  """The weights of `model.pretrained`, if any, see `pretrained.load`."""
  if not config.model.pretrained:
    return None
  expected = config.model.pretrained_missing.split(",")
  return pretrained.load(
      config.model.pretrained, model, bare(variables),
      [name.strip() for name in expected if name.strip()],
      config.model.pretrained_pixels,
  )


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
    variables = adapted(variables, config.scheme, key, config.block)
  return jax.device_put(
      variables, jax.tree.map(lambda leaf: leaf.sharding, abstract)
  ), origin


def _of_a_run(
    config: ml_collections.ConfigDict, fresh: dict, abstract: dict
) -> tuple[dict, dict]:
  run = Workdir(Path(config.start.workdir))
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
  if run.checkpoints.is_dir():
    averages = workdir.average_decay(run.path)
    restored = checkpoints.restore_latest(
        checkpoints.open_manager(run.checkpoints),
        {"ema": wanted} if averages else wanted, partial=True, absent=absent,
    )
  if restored is None:
    raise UserError(
        f"start.workdir='{run.path}' holds no trained model to start from;"
        " train one there or give another."
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
