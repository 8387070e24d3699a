"""The optimizer and its schedule, from a config, with optax."""

import jax
import ml_collections
import optax

from ppseg_jax.errors import UserError


def make_schedule(
    config: ml_collections.ConfigDict, steps: int
) -> optax.Schedule:
  """Learning rate by step: linear warm-up, then cosine or poly decay to 0."""
  decay_steps = max(steps - config.warmup, 1)
  match config.schedule:
    case "cosine":
      decay = optax.cosine_decay_schedule(config.lr, decay_steps)
    case "poly":
      decay = optax.polynomial_schedule(
          config.lr, 0.0, config.power, decay_steps
      )
    case other:
      raise UserError(f"optim.schedule='{other}' is neither cosine nor poly.")
  warmup = optax.linear_schedule(0.0, config.lr, max(config.warmup, 1))
  return optax.join_schedules([warmup, decay], [config.warmup])


def make_optimizer(
    config: ml_collections.ConfigDict, steps: int
) -> optax.GradientTransformation:
  """SGD with momentum or AdamW; decays matrices only; the head by its own rate.

  `config.head_lr` multiplies the learning rate of the parameters under `head`.
  Raises UserError for an unknown name.
  """
  def matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)

  def in_head(params):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[0].key == "head", params
    )

  schedule = make_schedule(config, steps)
  decay = optax.add_decayed_weights(config.weight_decay, matrices)
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
      optax.masked(optax.scale(config.head_lr), in_head),
      optax.scale_by_learning_rate(schedule),
  )
