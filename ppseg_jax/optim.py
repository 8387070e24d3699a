"""The optimizer and its schedule, from a config, with optax."""

import re

import jax
import jax.numpy as jnp
import ml_collections
import optax

from ppseg_jax import trees
from ppseg_jax.errors import UserError


def make_schedule(
    config: ml_collections.ConfigDict, steps: int
) -> optax.Schedule:
  """Learning rate by step: linear warm-up, cosine or poly decay to min_lr."""
  decay_steps = max(steps - config.warmup, 1)
  match config.schedule:
    case "cosine":
      decay = optax.cosine_decay_schedule(
          config.lr, decay_steps, config.min_lr / config.lr
      )
    case "poly":
      decay = optax.polynomial_schedule(
          config.lr, config.min_lr, config.power, decay_steps
      )
    case other:
      raise UserError(f"optim.schedule='{other}' is neither cosine nor poly.")
  warmup = optax.linear_schedule(0.0, config.lr, max(config.warmup, 1))
  return optax.join_schedules([warmup, decay], [config.warmup])


def is_trained(path: tuple, only: str) -> bool:
  """Whether a parameter, by its path in `params`, is one that `only` names.

  `embed,head`: those and what is inside them; `encoder/` may be left out. An
  empty one names all.
  """
  name = trees.path_name(path).removeprefix("encoder/") + "/"
  parts = [part.strip().removeprefix("encoder/") for part in only.split(",")]
  return not only or any(name.startswith(f"{part}/") for part in parts if part)


def held(params: dict, only: str) -> dict:
  """The parameters, without a gradient for those that `only` does not name.

  Raises UserError where it names none.
  """
  paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
  if not any(is_trained(path, only) for path in paths):
    raise UserError(
        f"optim.only='{only}' names no parameter; embed,stem or head, for"
        " example."
    )
  return jax.tree_util.tree_map_with_path(
      lambda path, x: x if is_trained(path, only) else jax.lax.stop_gradient(x),
      params,
  )


def mixed(new: dict, old: dict, only: str) -> dict:
  """New statistics of what `only` names, and the old ones of the rest."""
  return jax.tree_util.tree_map_with_path(
      lambda path, new, old: new if is_trained(path, only) else old, new, old
  )


def rates(
    params: dict, head_lr: float = 1.0, layer_decay: float = 1.0,
    embed_lr: float = 0.0, only: str = "",
) -> dict:
  """What each parameter's learning rate is multiplied by, a tree of floats.

  Everything outside `encoder` has `head_lr`. Inside, a layer has `layer_decay`
  times the rate of the layer above (Bao et al., ICLR 2022): the final norm has
  1, the last block `layer_decay`, the embeddings the least. With `embed_lr`
  what reads the patches, embedding and stem, has that: under an encoder that
  was pretrained they may be new. What `only` does not name has 0.
  """
  blocks = [
      int(found[1]) for name in params.get("encoder", {})
      if (found := re.fullmatch(r"block(\d+)", name))
  ]
  depth = max(blocks, default=-1) + 1

  def rate(path, _):
    if not is_trained(path, only):
      return 0.0
    if path[0].key != "encoder":
      return head_lr
    name = path[1].key
    if found := re.fullmatch(r"block(\d+)", name):
      return layer_decay ** (depth - int(found[1]))
    if embed_lr and name in ("embed", "stem"):
      return embed_lr
    return 1.0 if name == "norm" else layer_decay ** (depth + 1)

  return jax.tree_util.tree_map_with_path(rate, params)


def make_optimizer(
    config: ml_collections.ConfigDict, steps: int
) -> optax.GradientTransformation:
  """SGD with momentum or AdamW, with a rate of its own for each layer.

  Only kernels decay: no bias, norm, position embedding or class token does
  (Dosovitskiy et al. and those who fine-tune their weights leave them out).
  The rates are those of `rates`. Raises UserError for an unknown name.
  """
  def kernels(params):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key == "kernel", params
    )

  def scale(updates, params):
    factors = rates(params, config.head_lr, config.layer_decay,
                    config.embed_lr, config.only)
    return jax.tree.map(lambda u, factor: u * factor, updates, factors)

  schedule = make_schedule(config, steps)
  decay = optax.add_decayed_weights(config.weight_decay, kernels)
  match config.name:
    case "adamw":
      core = [optax.scale_by_adam(b2=config.b2), decay]
    case "sgd":
      core = [decay, optax.trace(config.momentum)]
    case other:
      raise UserError(f"optim.name='{other}' is neither adamw nor sgd.")
  return optax.chain(
      optax.clip_by_global_norm(config.clip) if config.clip
      else optax.identity(),
      *core,
      optax.stateless(scale),
      optax.scale_by_learning_rate(schedule),
  )


def averaged(average: dict, new: dict, decay: float, step: jax.Array) -> dict:
  """The next exponential moving average of a tree of weights.

  Early on the decay is smaller, step / (step + 10): the first average is the
  first step's weights, and the initial ones never count.

  Args:
    average: the tree so far; at step 0 anything of the same shapes.
    new: the tree after this step.
    decay: 0 to 1.
    step: int32 [], steps done before this one.
  """
  decay = jnp.minimum(decay, step / (step + 10))
  return optax.incremental_update(new, average, 1 - decay)
