"""Training, from config to result, top to bottom."""

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ppseg_jax import data, evaluate, losses, optim, sharding
from ppseg_jax.data.augment import make_augment
from ppseg_jax.data.labels import LabelSpace
from ppseg_jax.data.pipeline import train_batches
from ppseg_jax.encryption import encrypt, image_keys, key_from_seed
from ppseg_jax.encryption.keys import TRAIN, derive
from ppseg_jax.errors import UserError
from ppseg_jax.models import pretrained, setr
from ppseg_jax.models.setr import SETR
from ppseg_jax.runs import checkpoints, workdir
from ppseg_jax.runs.start import start_from

# Purposes of the keys derived from the seed.
_INIT, _ENCRYPT, _DROPOUT = 0, 1, 2


def make_model(config: ml_collections.ConfigDict, num_classes: int) -> SETR:
  data, patch = config.data, config.model.patch
  grid = (data.crop_height // patch, data.crop_width // patch)
  return setr.from_config(config.model, num_classes, grid, config.block)


def key_root(config: ml_collections.ConfigDict) -> jax.Array:
  """The key that all encryption keys of an experiment come from."""
  return derive(key_from_seed(config.seed), _ENCRYPT)


def shared_key(config: ml_collections.ConfigDict) -> jax.Array:
  """The key of every image under the plan `shared`, typed []."""
  zero = jnp.zeros(1, jnp.int32)
  return image_keys("shared", key_root(config), zero, zero, TRAIN, 1)[0]


def make_init(config: ml_collections.ConfigDict, model: SETR, optimizer):
  """() -> a fresh train state: params, batch_stats, opt_state and step.

  With `config.optim.ema` also `ema`, the averages of params and batch_stats.
  """
  shape = (1, config.data.crop_height, config.data.crop_width, 3)

  def init():
    key = derive(key_from_seed(config.seed), _INIT)
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


def load_pretrained(
    config: ml_collections.ConfigDict, model: SETR, variables: dict
) -> tuple[dict[str, np.ndarray], pretrained.Report] | None:
  """The weights of `model.pretrained`, if any, see `pretrained.load`."""
  if not config.model.pretrained:
    return None
  expected = config.model.pretrained_missing.split(",")
  return pretrained.load(
      config.model.pretrained, model,
      {name: variables[name] for name in ("params", "batch_stats")},
      [name.strip() for name in expected if name.strip()],
      config.model.pretrained_pixels,
  )


def make_loss(config: ml_collections.ConfigDict, model: SETR):
  """(params, batch_stats, images, labels, total, key) -> (loss, batch_stats).

  Images are encrypted, uint8 [b, H, W, 3], and may be part of a batch: `total`
  is the weight of all pixels of the whole batch. Auxiliary heads have the plain
  weighted loss, without mining.
  """
  weighting = {"class_weights": tuple(config.loss.class_weights),
               "smoothing": config.loss.smoothing}
  mining = {"ohem": config.loss.ohem, "ohem_kept": config.loss.ohem_kept}

  def loss_fn(params, batch_stats, images, labels, total, key):
    (logits, aux), changed = model.apply(
        {"params": params, "batch_stats": batch_stats},
        images, train=True, mutable=["batch_stats"], rngs={"dropout": key},
    )
    loss = losses.cross_entropy(
        logits, labels, total=total, **weighting, **mining
    )
    for extra in aux:
      loss += config.model.aux_weight * losses.cross_entropy(
          extra, labels, total=total, **weighting
      )
    return loss, changed.get("batch_stats", {})

  return loss_fn


def make_update(config: ml_collections.ConfigDict, model: SETR, optimizer):
  """The train step (state, batch) -> (state, loss), to be jitted.

  Batch: image uint8 [B, H, W, 3], label uint8 [B, H, W], index and epoch
  int32 [B].

  With `config.accumulate` = n the batch is worked through in n parts, one after
  another, and the gradient is that of the whole batch: every pixel counts the
  same, in whichever part it is. Only BatchNorm notices, whose statistics are
  then those of a part.
  """
  root, parts = key_root(config), config.accumulate
  dropout = derive(key_from_seed(config.seed), _DROPOUT)
  class_weights = tuple(config.loss.class_weights)
  loss_and_grads = jax.value_and_grad(make_loss(config, model), has_aux=True)

  def gradients(params, batch_stats, images, labels, key):
    total = losses.pixel_weights(labels, class_weights).sum()
    if parts == 1:
      return loss_and_grads(params, batch_stats, images, labels, total, key)

    def add(carry, part):
      (loss, batch_stats), grads = carry
      number, images, labels = part
      (more, batch_stats), extra = loss_and_grads(
          params, batch_stats, images, labels, total, derive(key, number)
      )
      return ((loss + more, batch_stats),
              jax.tree.map(jnp.add, grads, extra)), None

    def split(x):  # every device has rows of every part
      return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

    zero = ((jnp.zeros(()), batch_stats), jax.tree.map(jnp.zeros_like, params))
    xs = (jnp.arange(parts), split(images), split(labels))
    return jax.lax.scan(add, zero, xs)[0]

  def update(state, batch):
    keys = image_keys(
        config.key_plan, root, batch["index"], batch["epoch"], TRAIN,
        config.clients,
    )
    images = encrypt(config.scheme, keys, batch["image"], config.block)
    step = state["step"]
    (loss, batch_stats), grads = gradients(
        state["params"], state["batch_stats"], images, batch["label"],
        derive(dropout, step),
    )
    updates, opt_state = optimizer.update(
        grads, state["opt_state"], state["params"]
    )
    variables = {
        "params": jax.tree.map(jnp.add, state["params"], updates),
        "batch_stats": batch_stats,
    }
    new = {**variables, "opt_state": opt_state, "step": step + 1}
    if config.optim.ema:
      new["ema"] = optim.averaged(
          state["ema"], variables, config.optim.ema, step
      )
    return new, loss

  return update


def check_batch(
    config: ml_collections.ConfigDict, mesh, accumulate: int = 1
) -> None:
  """Raises UserError where a batch cannot be cut evenly.

  `accumulate` is the number of parts of a training batch.
  """
  devices = mesh.shape["data"] * mesh.shape["fsdp"]
  unit = devices * accumulate
  if config.batch_size % unit:
    by = f"the {devices} devices of mesh.data and mesh.fsdp"
    if accumulate > 1:
      by += f" times accumulate={accumulate}"
    raise UserError(
        f"batch_size={config.batch_size} is not a multiple of {by}; choose"
        f" {-(-config.batch_size // unit) * unit} or another mesh"
        f"{' or accumulate' if accumulate > 1 else ''}."
    )
  # Each process brings images of its own: they go to its devices only.
  if devices % jax.process_count():
    raise UserError(
        f"mesh.data times mesh.fsdp is {devices}, which is not a multiple of"
        f" the {jax.process_count()} processes: mesh.model would reach across"
        " them; make it smaller."
    )


def check_classes(
    config: ml_collections.ConfigDict, space: LabelSpace
) -> None:
  weights = config.loss.class_weights
  if weights and len(weights) != space.num_classes:
    raise UserError(
        f"loss.class_weights has {len(weights)} weights, but '{space.name}' has"
        f" {space.num_classes} classes; give one for each of"
        f" {', '.join(space.names)}, or () for none."
    )


def protocol(
    config: ml_collections.ConfigDict, step: int, variables: dict
) -> dict:
  """What a reader needs to measure the same figures again."""
  size = (config.data.height, config.data.width)
  window = evaluate.window_of(config, size)
  return {
      "data": config.data.name,
      "split": "val" if config.eval.split == "val"
               else f"train, left out {config.data.leave_out}",
      "input_size": list(size),
      "inference": "whole" if window == size else
                   f"windows {window[0]}x{window[1]}, stride"
                   f" {config.eval.stride}",
      "scheme": evaluate.eval_scheme(config),
      "block": config.block,
      "key_plan": config.eval.key_plan or config.key_plan,
      "keys_seed": config.seed,
      "trained_scheme": config.scheme,
      "adapted": config.eval.adapt,
      "embed": config.model.embed,
      "form": config.model.form,
      "weights": (f"averaged, decay {config.optim.ema}" if config.optim.ema
                  else "of the last step"),
      "step": step,
      "checkpoint_sha256": checkpoints.digest(variables),
  }


def variables_of(state: dict) -> dict:
  """What a state predicts with: its averaged weights, if it keeps them."""
  return _bare(state.get("ema", state))


def _bare(state: dict) -> dict:
  return {name: state[name] for name in ("params", "batch_stats")}


def figures(result: dict) -> dict[str, float]:
  """The figures of an evaluation that curves and the best checkpoint need."""
  return {
      name: result[name] or 0.0 for name in ("miou", "pixel_accuracy")
  }


class Progress:
  """Speed and time left, without compilation, evaluation and saving."""

  def __init__(self, steps: int, batch_size: int):
    self._steps, self._batch_size = steps, batch_size
    self._seconds, self._done = 0.0, 0

  def start(self, step: int) -> None:
    """Starts, or goes on after a pause, at the end of this step."""
    self._since, self._step = time.perf_counter(), step

  def line(self, step: int, loss: float) -> str:
    self._seconds += time.perf_counter() - self._since
    self._done += step - self._step
    self.start(step)
    head = f"step {step}/{self._steps}  loss {loss:.4f}"
    if not self._done:
      return head
    per_step = self._seconds / self._done
    minutes, seconds = divmod(round((self._steps - step) * per_step), 60)
    return (f"{head}  {self._batch_size / per_step:.1f} images/s"
            f"  {minutes}m{seconds:02d}s left")


def train(config: ml_collections.ConfigDict, folder: Path) -> dict:
  """Trains, or goes on training, in `folder`; returns the final result.

  The result is that of the last step: the best checkpoint is chosen on the
  very images that the result is measured on.
  """
  workdir.check_config(folder, config.to_dict())
  train_source = data.load(config.data, "train")
  val_source = data.load(config.data, config.eval.split)
  mesh = sharding.make_mesh(config.mesh)
  check_batch(config, mesh, config.accumulate)
  check_classes(config, train_source.label_space)

  model = make_model(config, train_source.label_space.num_classes)
  optimizer = optim.make_optimizer(config.optim, config.steps)
  schedule = optim.make_schedule(config.optim, config.steps)
  init = make_init(config, model, optimizer)
  abstract = sharding.abstract_on(mesh, init)
  state_sharding = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  update = jax.jit(
      make_update(config, model, optimizer),
      donate_argnums=0,
      in_shardings=(state_sharding, sharding.batch_sharding(mesh)),
      out_shardings=(state_sharding, sharding.replicated(mesh)),
  )
  eval_step = evaluate.make_eval_step(config, model, mesh, key_root(config))

  # The first images are read before anything is written: a folder of broken
  # data leaves no workdir behind.
  train_source[0], val_source[0]
  begun = (folder / "checkpoints").exists()
  loaded = None if begun else load_pretrained(config, model, abstract)
  manager = checkpoints.open_manager(folder)
  restored = checkpoints.restore_latest(manager, abstract)
  if begun and not restored:
    loaded = load_pretrained(config, model, abstract)
  if jax.process_index() == 0:
    if not restored or restored[0] < config.steps:  # else all is done
      workdir.write_json(folder / "config.json", config.to_dict())
      workdir.write_json(folder / "versions.json", workdir.versions())
    if loaded:
      print(loaded[1])
      workdir.write_json(
          folder / "pretrained.json", dataclasses.asdict(loaded[1])
      )
  if restored:
    first_step, state = restored
    print(f"resuming at step {first_step} of {config.steps} in {folder}")
  else:
    first_step, state = 0, jax.jit(init, out_shardings=state_sharding)()
    if loaded:
      state = pretrained.put(state, loaded[0])
    if config.start.workdir or config.start.adapt:
      variables, origin = start_from(
          config, shared_key(config), _bare(state), _bare(abstract)
      )
      state |= variables
      if jax.process_index() == 0:
        workdir.write_json(folder / "start.json", origin)
    if config.optim.ema:  # averages begin at the weights that training does
      state["ema"] = jax.tree.map(jnp.copy, _bare(state))
  parameters = sum(leaf.size for leaf in jax.tree.leaves(state["params"]))
  print(
      f"SETR {config.model.size}, {parameters / 1e6:.1f} M parameters, scheme"
      f" {config.scheme}, embedding {config.model.form},"
      f" {len(train_source)} training images, {jax.device_count()} device(s)"
  )

  recorder = workdir.Recorder(folder, first_step)
  batches = train_batches(
      train_source, make_augment(config.data),
      batch_size=config.batch_size, seed=config.seed,
      first_step=first_step, last_step=config.steps,
      process=jax.process_index(), processes=jax.process_count(),
  )
  progress = Progress(config.steps, config.batch_size)
  for step, batch in enumerate(batches, first_step + 1):
    state, loss = update(state, sharding.put_batch(batch, mesh))
    last = step == config.steps
    if step == first_step + 1:
      loss.block_until_ready()
      progress.start(step)
    if step % config.log_every == 0 or last:
      value = float(loss)
      recorder.write(step, {"loss": value, "lr": float(schedule(step - 1))})
      print(progress.line(step, value), flush=True)
    metrics = None
    if step % config.eval.every == 0 and not last:
      metrics = figures(evaluate.evaluate(
          config, eval_step, variables_of(state), val_source, mesh
      ))
      recorder.write(step, metrics)
      print(f"step {step}/{config.steps}  {metrics}", flush=True)
    if (metrics or step % config.checkpoint_every == 0) and not last:
      checkpoints.save(manager, step, state, metrics)
      progress.start(step)

  result = evaluate.evaluate(
      config, eval_step, variables_of(state), val_source, mesh,
      panels=folder / "panels",
  )
  if first_step < config.steps:
    recorder.write(config.steps, figures(result))
    checkpoints.save(manager, config.steps, state, figures(result))
  manager.wait_until_finished()
  manager.close()
  recorder.close()
  result["protocol"] = protocol(config, config.steps, variables_of(state))
  result["versions"] = workdir.versions()
  if jax.process_index() == 0:
    workdir.write_json(folder / "result.json", result)
  return result
