"""Training, from config to result, top to bottom."""

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from ppseg_jax import config as config_checks
from ppseg_jax import (
    data,
    distributed,
    evaluate,
    losses,
    memory,
    optim,
    sharding,
)
from ppseg_jax.data import augment, check, sizes
from ppseg_jax.data.pipeline import train_batches
from ppseg_jax.encryption import key_from_seed
from ppseg_jax.encryption.keys import TRAIN, derive
from ppseg_jax.errors import UserError
from ppseg_jax.models import bag
from ppseg_jax.models.setr import SETR
from ppseg_jax.runs import checkpoints, keys, record, weights, workdir
from ppseg_jax.runs import model as models
from ppseg_jax.runs.record import Record
from ppseg_jax.runs.start import Start, first_state, make_init
from ppseg_jax.runs.stopping import asked_to_stop, stopped
from ppseg_jax.runs.workdir import Workdir
from ppseg_jax.windows import windows_of


def make_update(
    config: ml_collections.ConfigDict, model: SETR, optimizer
) -> Callable[[dict, dict], tuple[dict, dict]]:
  """The train step (state, batch) -> (state, measures), to be jitted.

  At home it changes the images' colours, see `augment.coloured`, and encrypts
  what came out.

  Batch: image uint8 [B, H, W, 3], label uint8 [B, H, W], index and epoch
  int32 [B]; where the cloud trains also window int32 [B, 3], which is cut from
  the ciphertexts. Measures: `loss`, `grad_norm` (before clipping) and `lr`.

  With `config.accumulate` = n the batch is worked through in n parts, one after
  another, and the gradient is that of the whole batch: every pixel counts the
  same, in whichever part it is. Only BatchNorm notices, whose statistics are
  then those of a part.
  """
  clients = keys.of_training(config)
  parts, ema = config.accumulate, config.optim.ema
  size = (config.data.crop_height, config.data.crop_width)
  class_weights = tuple(config.loss.class_weights)
  dropout, colour = (derive(key_from_seed(config.seed), purpose)
                     for purpose in (keys.DROPOUT, keys.COLOUR))
  schedule = optim.make_schedule(config.optim, config.steps)
  objective = losses.OBJECTIVES[config.loss.objective](
      config.loss, config.model.aux_weight,
      lambda folder, layers=(): models.predictor(
          Path(folder), model.num_classes, layers
      ),
  )

  def loss_fn(params, batch_stats, batch, key):
    params = optim.held(params, config.optim.only)
    (logits, aux), changed = model.apply(
        {"params": params, "batch_stats": batch_stats}, batch["seen"],
        train=True, upsample=not clients.moved, mutable=["batch_stats"],
        rngs={"dropout": key},
    )
    if clients.moved:  # neighbours are none, so nothing is interpolated
      logits, aux = jax.tree.map(
          lambda x: bag.per_pixel(x, config.block), (logits, aux)
      )

    def features(layers):
      return model.encoder.apply(
          {"params": params["encoder"]}, batch["seen"], layers, train=True,
          rngs={"dropout": key},
      )[1]

    loss = objective(
        {"logits": logits, "aux": aux, "features": features}, batch
    )
    changed = changed.get("batch_stats", {})
    return loss, optim.mixed(changed, batch_stats, config.optim.only)

  loss_and_grads = jax.value_and_grad(loss_fn, has_aux=True)

  def gradients(params, batch_stats, batch, key):
    whole = {
        "total": losses.pixel_weights(batch["label"], class_weights).sum(),
        "images": len(batch["label"]),
    }
    if parts == 1:
      return loss_and_grads(params, batch_stats, batch | whole, key)

    def add(carry, part):
      (loss, batch_stats), grads = carry
      number, batch = part
      (more, batch_stats), extra = loss_and_grads(
          params, batch_stats, batch | whole, derive(key, number)
      )
      return ((loss + more, batch_stats),
              jax.tree.map(jnp.add, grads, extra)), None

    def split(x):  # every device has rows of every part
      return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

    zero = ((jnp.zeros(()), batch_stats), jax.tree.map(jnp.zeros_like, params))
    xs = (jnp.arange(parts), jax.tree.map(split, batch))
    return jax.lax.scan(add, zero, xs)[0]

  def update(state, batch):
    if config.data.photometric:
      batch = augment.coloured(colour, batch, config.data.photometric)
    batch = batch | {"seen": clients.encrypt(batch, TRAIN)}
    if "window" in batch:
      batch |= {
          name: augment.cut(batch[name], batch["window"], *size)
          for name in ("image", "seen", "label")
      }
    step = state["step"]
    (loss, batch_stats), grads = gradients(
        state["params"], state["batch_stats"], batch, derive(dropout, step)
    )
    updates, opt_state = optimizer.update(
        grads, state["opt_state"], state["params"]
    )
    variables = {
        "params": optax.apply_updates(state["params"], updates),
        "batch_stats": batch_stats,
    }
    new = {**variables, "opt_state": opt_state, "step": step + 1}
    if ema:
      new["ema"] = optim.averaged(state["ema"], variables, ema, step)
    return new, {"loss": loss, "grad_norm": optax.tree.norm(grads),
                 "lr": jnp.asarray(schedule(step), jnp.float32)}

  return update


def make_batches(
    config: ml_collections.ConfigDict, source: data.Source, first_step: int,
    rows: np.ndarray | None = None,
):
  """What the steps from `first_step` on read, see `train_batches`."""
  if config.setting == "cloud":
    unit = math.lcm(config.block, config.model.patch)
    choose = augment.make_window(config.data, unit)
  else:
    choose = augment.make_augment(config.data)
  return train_batches(
      source, choose, batch_size=config.batch_size, seed=config.seed,
      first_step=first_step, last_step=config.steps, rows=rows,
  )


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


class Watch:
  """The measures of steps, fetched together, and held to be finite."""

  def __init__(self):
    self._waiting: list[tuple[int, dict]] = []
    self._last: dict[str, float] = {}

  def add(self, step: int, measures: dict) -> None:
    self._waiting.append((step, measures))

  def fetch(self, saved: int) -> dict[str, float]:
    """The last step's measures, as numbers.

    Raises UserError for the first step since the last call whose loss or
    gradient is not finite; `saved` is the newest checkpoint's, or 0.
    """
    waiting, self._waiting = jax.device_get(self._waiting), []
    for step, measures in waiting:
      self._last = found = {k: float(v) for k, v in measures.items()}
      for name, what in (("loss", "loss"), ("grad_norm", "gradient's norm")):
        if not math.isfinite(found[name]):
          back = (f"the last good checkpoint is that of step {saved}"
                  if saved else "no checkpoint was saved before it")
          raise UserError(
              f"the {what} of step {step} is {found[name]}; {back}; make"
              " optim.lr smaller, optim.clip or optim.warmup larger, in"
              " another --workdir."
          )
    return self._last


def train(config: ml_collections.ConfigDict, folder: Path) -> Record:
  """Trains, or goes on training, in `folder`; returns the final record.

  The result is that of the last step: the best checkpoint is chosen on the
  very images that the result is measured on.

  Raises:
    UserError: where anything that the training needs is wrong, and where the
      loss is not finite.
    KeyboardInterrupt: on SIGINT and SIGTERM (then `Terminated`), after a
      checkpoint was saved.
  """
  run = Workdir(folder)
  with run.held():
    new = distributed.once(lambda: _claim(config, run))
    try:
      return _train(config, run)
    except BaseException:
      if new and distributed.first() and not any(run.checkpoints.glob("*")):
        run.forget()  # nothing was trained: another config may come
      raise


def _claim(config: ml_collections.ConfigDict, run: Workdir) -> bool:
  """Writes the config where there is none; UserError if there is another."""
  workdir.check_config(run.path, config.to_dict())
  new = not run.config.exists()
  if new:
    workdir.write_json(run.config, config.to_dict())
  return new


def _train(config: ml_collections.ConfigDict, run: Workdir) -> Record:
  began = time.perf_counter()
  distributed.once(lambda: _check_data(config, run))
  train_source = data.load(
      config.data, "train", release=keys.releases(config, config.data, TRAIN)
  )
  val_source = evaluate.source_of(config, config.eval.split)
  space = train_source.label_space
  mesh = sharding.make_mesh(config.mesh)
  config_checks.check_mesh(config, mesh.shape, config.accumulate)
  config_checks.check_classes(config, space)

  model = models.make(config, space.num_classes)
  optimizer = optim.make_optimizer(config.optim, config.steps)
  weighted = weights.with_weights(config, run.class_weights, train_source)
  init = make_init(config, model, optimizer)
  abstract = sharding.abstract_on(mesh, init)
  state_sharding = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  update = jax.jit(
      make_update(weighted, model, optimizer),
      donate_argnums=0,
      in_shardings=(state_sharding, sharding.batch_sharding(mesh)),
      out_shardings=(state_sharding, sharding.replicated(mesh)),
  )
  clients = keys.of_test(config)
  answer = evaluate.make_answer(
      model, clients, keys.SPLITS[config.eval.split],
      windows_of(config),
  )
  test_step = evaluate.make_step(
      answer, space.num_classes, mesh,
      boundary=config.eval.boundary and not clients.moved,
      of_logits=sizes.of_logits(config),
  )

  with contextlib.ExitStack() as stack:
    miou: dict[int, float] = {}
    manager = checkpoints.open_manager(run.checkpoints, miou)
    stack.callback(manager.close)  # after what is being saved
    start = first_state(config, model, init, abstract, manager)
    state, saved = start.state, start.step
    _describe(config, run, start, len(train_source))
    recorder = workdir.Recorder(run, start.step, miou)
    stack.callback(recorder.close)
    asked = stack.enter_context(asked_to_stop())

    def stop_if_asked() -> None:
      if asked():
        manager.wait_until_finished()
        raise stopped(
            asked(), f"stopped; the same command goes on at step {saved} of"
            f" {config.steps}."
        )

    def test(**panels) -> Record:
      return evaluate.evaluate(
          test_step, models.variables_of(state), val_source, mesh,
          batch_size=config.batch_size, images=config.eval.images,
          each_batch=stop_if_asked, **panels,
      )[""]

    def test_and_tell(step: int) -> None:
      figures = test().figures()
      recorder.write(step, figures)
      print(f"step {step}/{config.steps}  {figures}", flush=True)

    if (start.step % config.eval.every == 0 and start.step not in miou
        and 0 < start.step < config.steps):
      test_and_tell(start.step)  # the run was stopped before it
    progress, watch = Progress(config.steps, config.batch_size), Watch()
    rows = sharding.rows_here(mesh, config.batch_size)
    batches = make_batches(config, train_source, start.step, rows)
    for step, batch in enumerate(batches, start.step + 1):
      batch = memory.settled(sharding.put_batch(batch, mesh))
      # Tracing it fetches the keys that are its constants from a GPU.
      first = step == start.step + 1
      with jax.transfer_guard("allow" if first else "disallow"):
        state, measures = update(state, batch)
      watch.add(step, measures)
      last = step == config.steps
      tested = step % config.eval.every == 0 and not last
      if first:
        jax.block_until_ready(measures)
        print(f"step {step}/{config.steps}  done"
              f" {time.perf_counter() - began:.1f} s after the start",
              flush=True)
        progress.start(step)
      if step % config.log_every == 0 or last:
        found = watch.fetch(saved)
        recorder.write(step, found)
        print(progress.line(step, found["loss"]), flush=True)
      if last or tested or asked() or step % config.checkpoint_every == 0:
        watch.fetch(saved)
        checkpoints.save(manager, step, state)
        saved = step
        stop_if_asked()
        if tested:
          test_and_tell(step)
        progress.start(step)

    result = test(panels={"": run.panels}, panel_count=config.panels,
                  scheme=config.eval.scheme,
                  plain=evaluate.shows_plain(config))
    if config.steps not in miou:
      recorder.write(config.steps, result.figures())
    manager.wait_until_finished()  # raises what went wrong
    result = result.described(
        record.protocol(
            config, config.steps, models.variables_of(state), config.optim.ema
        ), config,
    )
    if distributed.first():
      record.write(run.result, result)
    return result


def _check_data(config: ml_collections.ConfigDict, run: Workdir) -> None:
  """Reads every file once, says what was found, and remembers it."""
  data.check_encrypted(config)
  remembered = workdir.read_json(run.data) if run.data.exists() else None
  report = check.scan(config.data, ("train", config.eval.split), remembered)
  print(*report.lines(), sep="\n", flush=True)
  for text in report.warnings():
    print("warning:", text, file=sys.stderr)
  workdir.write_json(run.data, report.to_json())


def _describe(
    config: ml_collections.ConfigDict, run: Workdir, start: Start, images: int
) -> None:
  """Writes and prints what a training begins with."""
  if not distributed.first():
    return
  if start.step < config.steps:  # else all is done
    workdir.write_json(run.config, config.to_dict())
    workdir.write_json(run.versions, workdir.versions())
  if start.read:
    print(start.read)
    workdir.write_json(run.pretrained, dataclasses.asdict(start.read))
  if start.origin:
    workdir.write_json(run.start, start.origin)
  warmup = config.optim.warmup
  if warmup >= config.steps:
    print(f"optim.warmup={warmup} does not end within {config.steps} steps:"
          f" the rate never is optim.lr={config.optim.lr}")
  if start.resumed:
    print(f"resuming at step {start.step} of {config.steps} in {run.path}")
  leaves = jax.tree.leaves(start.state["params"])
  print(
      f"SETR {config.model.size}, {sum(x.size for x in leaves) / 1e6:.1f} M"
      f" parameters, scheme {config.scheme}, reads the form"
      f" '{config.model.form}',"
      f" {images} training images, {jax.device_count()} device(s)"
  )
