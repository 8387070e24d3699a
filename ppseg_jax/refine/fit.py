"""Fits the client's refinement to a trained segmenter, and measures it.

The refiner learns on the training images from what the segmenter says of them,
though it was fitted to those very images. Logits of images that were left out
would be more like those of a test, but the segmenters that give them have seen
fewer scenes, are worse, and teach the refiner to paint by colour instead: on
other films that costs many times what borders gain.
"""

import functools
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from ppseg_jax import data, distributed, evaluate, losses, sharding
from ppseg_jax.data import check, encrypted, sizes
from ppseg_jax.data.augment import coloured, make_augment
from ppseg_jax.data.pipeline import train_batches
from ppseg_jax.encryption import key_from_seed
from ppseg_jax.encryption.keys import REFINE, derive
from ppseg_jax.errors import UserError
from ppseg_jax.refine import network
from ppseg_jax.refine.guided import guided_filter
from ppseg_jax.runs import keys, record, workdir
from ppseg_jax.runs import model as models
from ppseg_jax.runs.model import Trained
from ppseg_jax.runs.record import Record
from ppseg_jax.runs.workdir import Workdir
from ppseg_jax.windows import windows_of

# What is reported, in this order. `alone` never sees the cloud's logits.
VARIANTS = ("unrefined", "guided", "network", "alone")


def refine(
    config: ml_collections.ConfigDict, folder: Path
) -> dict[str, Record]:
  """Fits and measures; a record for each of VARIANTS.

  Writes `refine_<variant>.json` and `panels_refine_<variant>/` to the workdir,
  and the networks to `refine.npz`; the one for clients to use, which also reads
  the logits, to `refiner.safetensors`.

  Raises:
    UserError: where the workdir holds no trained model, or the config asks for
      a network that is too large.
  """
  if config.data.name == encrypted.NAME:
    raise UserError(
        f"--mode=refine learns from plain images, but those of data.name="
        f"{encrypted.NAME} come encrypted; only who has the plain ones can"
        " refine."
    )
  if config.private.pixels:
    raise UserError(
        f"private.pixels={config.private.pixels}: a refinement is fitted to the"
        " plain images, which noise has left none of here; use"
        " private.pixels=0."
    )
  # Else the networks would learn on other images than the segmenter did.
  workdir.check_config(folder, config.to_dict(), ignore=("eval.",))
  run = Workdir(folder)
  check.check_run(config.data, "train", run.data)
  mesh = sharding.make_mesh(config.mesh)
  space = models.label_space(config, folder)
  nets = make_networks(config, space.num_classes)
  trained = models.load(config, folder, space.num_classes, mesh)
  with run.held():
    source = data.load(config.data, "train")
    params = fit(config, trained, nets, source, mesh)
    chosen = choose_filter(
        config, trained, evaluate.source_of(config, "train"), mesh
    )
    print(f"guided filter: radius {chosen[0]}, eps {chosen[1]}", flush=True)
    distributed.once(lambda: network.save(run.refiner, params))
    distributed.once(lambda: network.export(
        run.exported_refiner, nets["network"], params["network"], space.names
    ))
    results = remeasure(config, folder, chosen, panels=True)
    if distributed.first():
      for name, result in results.items():
        record.write(run.refinement(name)[0], result)
  return results


def remeasure(
    config: ml_collections.ConfigDict,
    folder: Path,
    filter_knobs: tuple[int, float] | None,
    only: str = "",
    panels: bool = False,
) -> dict[str, Record]:
  """The records of VARIANTS, with the networks in the workdir.

  `filter_knobs` are radius and eps of the guided filter; `only` is one of the
  variants.
  """
  run = Workdir(folder)
  check.check_run(config.data, config.eval.split, run.data)
  mesh = sharding.make_mesh(config.mesh)
  source = evaluate.source_of(config, config.eval.split)
  classes = source.label_space.num_classes
  nets = make_networks(config, classes)
  trained = models.load(config, folder, classes, mesh)
  params = network.load(run.refiner)

  def apply(name, images, logits):
    if name == "unrefined":
      return logits
    if name == "guided":
      return _filtered(images, logits, *filter_knobs)
    return nets[name].apply({"params": params[name]}, images, logits)

  predictors = {
      name: functools.partial(apply, name) for name in VARIANTS
      if only in ("", name)
  }
  results = measure(
      config, trained, predictors, config.eval.split, source, mesh,
      images=config.eval.images,
      panels={name: run.refinement(name)[1] for name in predictors}
      if panels else None,
  )
  protocol = record.protocol(
      config, trained.step, trained.variables, trained.decay
  )
  return {
      name: result.described(protocol | {
          "refinement": name,
          "refinement_parameters": network.count_parameters(
              params.get(name, {})
          ),
          "refinement_filter": list(filter_knobs) if name == "guided" else None,
      }, config)
      for name, result in results.items()
  }


def make_networks(
    config: ml_collections.ConfigDict, num_classes: int
) -> dict[str, network.Refiner]:
  """The network and the one that is alone; UserError if one is too large."""
  knobs = config.refine
  nets = {}
  for name in ("network", "alone"):
    net = network.Refiner(
        num_classes, knobs.width, knobs.layers, knobs.factor,
        reads_logits=name == "network",
    )
    shapes = jax.eval_shape(lambda net=net: _init(config, net))
    count = network.count_parameters(shapes)
    if count >= network.MAX_PARAMETERS:
      raise UserError(
          f"refine.width={knobs.width} and refine.layers={knobs.layers} make a"
          f" network of {count} parameters; it must have fewer than"
          f" {network.MAX_PARAMETERS}."
      )
    nets[name] = net
  return nets


def _init(config: ml_collections.ConfigDict, net: network.Refiner) -> dict:
  size = (1, config.refine.factor, config.refine.factor)
  return net.init(
      key_from_seed(config.seed), jnp.zeros((*size, 3), jnp.uint8),
      jnp.zeros((*size, net.num_classes)),
  )["params"]


def fit(
    config: ml_collections.ConfigDict, trained: Trained, nets: dict, source,
    mesh,
) -> dict:
  """Trains the networks, with and without logits; their parameters by name.

  Both see the same batches: images augmented plain, each encrypted under a
  fresh key.
  """
  knobs = config.refine
  optimizer = optax.adam(optax.cosine_decay_schedule(knobs.lr, knobs.steps))
  params = {name: _init(config, net) for name, net in nets.items()}
  answer = evaluate.make_answer(
      trained.model, keys.of_refining(config), REFINE,
      windows_of(config),
  )
  colour = derive(key_from_seed(config.seed), keys.COLOUR)

  def update(params, state, variables, batch):
    if config.data.photometric:
      batch = coloured(colour, batch, config.data.photometric)
    _, logits = answer(variables, batch)

    def loss_fn(params):
      each = {
          name: losses.cross_entropy(
              net.apply({"params": params[name]}, batch["image"], logits),
              batch["label"],
          ) for name, net in nets.items()
      }
      return sum(each.values()), each

    grads, each = jax.grad(loss_fn, has_aux=True)(params)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state, each

  everywhere = sharding.replicated(mesh)
  update = jax.jit(update, donate_argnums=(0, 1), out_shardings=everywhere)
  params = jax.device_put(params, everywhere)
  state = jax.jit(optimizer.init, out_shardings=everywhere)(params)
  batches = train_batches(
      source, make_augment(config.data), batch_size=config.batch_size,
      seed=config.seed, first_step=0, last_step=knobs.steps,
      rows=sharding.rows_here(mesh, config.batch_size),
  )
  for step, batch in enumerate(batches, 1):
    batch = sharding.put_batch(batch, mesh)
    params, state, each = update(params, state, trained.variables, batch)
    if step % config.log_every == 0 or step == knobs.steps:
      shown = ", ".join(f"{name} {loss:.4f}" for name, loss in each.items())
      if not all(np.isfinite(float(loss)) for loss in each.values()):
        raise UserError(
            f"the refiner's loss at step {step} is not finite ({shown}); make"
            f" refine.lr={knobs.lr} smaller."
        )
      print(f"refiner step {step}/{knobs.steps}  loss: {shown}", flush=True)
  return params


def _filtered(
    images: jax.Array, logits: jax.Array, radius: int, eps: float
) -> jax.Array:
  return guided_filter(images, jax.nn.softmax(logits), radius, eps)


def choose_filter(
    config: ml_collections.ConfigDict, trained: Trained, source, mesh
) -> tuple[int, float]:
  """Radius and eps of the highest mIoU on the first training images."""
  choices = list(itertools.product(config.refine.radii, config.refine.eps))
  predictors = {
      str((radius, eps)): functools.partial(_filtered, radius=radius, eps=eps)
      for radius, eps in choices
  }
  results = measure(config, trained, predictors, "train", source, mesh,
                    images=config.refine.filter_images)
  return max(choices, key=lambda choice: results[str(choice)].miou or 0.0)


def measure(
    config: ml_collections.ConfigDict,
    trained: Trained,
    predictors: dict[str, evaluate.Predictor],
    split: str,
    source,
    mesh,
    images: int,
    panels: dict[str, Path] | None = None,
) -> dict[str, Record]:
  """The figures of each predictor, see `evaluate.evaluate`."""
  answer = evaluate.make_answer(
      trained.model, keys.of_test(config), keys.SPLITS[split],
      windows_of(config),
  )
  classes = source.label_space.num_classes
  return evaluate.evaluate(
      evaluate.make_step(
          answer, classes, mesh, predictors,
          boundary=config.eval.boundary, of_logits=sizes.of_logits(config),
      ),
      trained.variables, source, mesh, batch_size=config.batch_size,
      images=images, panels=panels, panel_count=config.panels,
      scheme=config.eval.scheme, names=tuple(predictors),
  )


def report(results: dict[str, Record]) -> str:
  """The figures as text for a terminal."""
  return "\n".join(
      f"  {name:<10} mIoU {result.miou or 0:.4f}, pixel accuracy"
      f" {result.pixel_accuracy or 0:.4f}"
      for name, result in results.items()
  )
