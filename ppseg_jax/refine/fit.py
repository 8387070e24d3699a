"""Fits the client's refinement to a trained segmenter, and measures it.

The refiner learns on the training images from what the segmenter says of them,
though it was fitted to those very images. Logits of images that were left out
would be more like those of a test, but the segmenters that give them have seen
fewer scenes, are worse, and teach the refiner to paint by colour instead: on
other films that costs many times what borders gain.
"""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from ppseg_jax import data, evaluate, losses, metrics, sharding, trained
from ppseg_jax import train as training
from ppseg_jax.data.augment import make_augment
from ppseg_jax.data.pipeline import eval_batches, train_batches
from ppseg_jax.encryption import key_from_seed
from ppseg_jax.errors import UserError
from ppseg_jax.refine import network
from ppseg_jax.refine.guided import guided_filter
from ppseg_jax.runs import workdir

# What is reported, in this order. `alone` never sees the cloud's logits.
VARIANTS = ("unrefined", "guided", "network", "alone")


def refine(config: ml_collections.ConfigDict, folder: Path) -> dict[str, dict]:
  """Fits and measures; a record for each of VARIANTS.

  Writes `refine_<variant>.json` and `panels_refine_<variant>/` to the workdir,
  and the networks to `refine.npz`.

  Raises:
    UserError: where the workdir holds no trained model, or the config asks for
      a network that is too large.
  """
  if jax.process_count() > 1:
    raise UserError("--mode=refine runs in one process; start it on one host.")
  # Else the networks would learn on other images than the segmenter did.
  workdir.check_config(folder, config.to_dict(), ignore=("eval.",))
  mesh = sharding.make_mesh(config.mesh)
  space, _ = data.SOURCES[config.data.name]
  nets = make_networks(config, space.num_classes)
  model, variables, _ = trained.load(config, folder, space.num_classes, mesh)
  source = data.load(config.data, "train")
  params = fit(config, model, variables, nets, source, mesh)
  chosen = choose_filter(config, model, variables, source, mesh)
  print(f"guided filter: radius {chosen[0]}, eps {chosen[1]}", flush=True)
  network.save(folder / "refine.npz", params)
  results = remeasure(config, folder, chosen, panels=folder)
  for name, result in results.items():
    workdir.write_json(folder / f"refine_{name}.json", result | {
        "versions": workdir.versions(), "config": config.to_dict(),
    })
  return results


def remeasure(
    config: ml_collections.ConfigDict,
    folder: Path,
    filter_knobs: tuple[int, float] | None,
    only: str = "",
    panels: Path | None = None,
) -> dict[str, dict]:
  """Figures and protocol of VARIANTS, with the networks in the workdir.

  `filter_knobs` are radius and eps of the guided filter; `only` is one of the
  variants.
  """
  mesh = sharding.make_mesh(config.mesh)
  source = data.load(config.data, config.eval.split)
  classes = source.label_space.num_classes
  nets = make_networks(config, classes)
  model, variables, step = trained.load(config, folder, classes, mesh)
  params = network.load(folder / "refine.npz")

  def apply(name, images, logits):
    if name == "unrefined":
      return logits
    if name == "guided":
      return _filtered(images, logits, *filter_knobs)
    return nets[name].apply({"params": params[name]}, images, logits)

  functions = {
      name: functools.partial(apply, name) for name in VARIANTS
      if only in ("", name)
  }
  results = measure(
      config, model, variables, functions, source, mesh, panels=panels
  )
  for name, result in results.items():
    result["protocol"] = training.protocol(config, step, variables) | {
        "refinement": name,
        "refinement_parameters": network.count_parameters(
            params.get(name, {})
        ),
        "refinement_filter": list(filter_knobs) if name == "guided" else None,
    }
  return results


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
    config: ml_collections.ConfigDict, model, variables: dict, nets: dict,
    source, mesh,
) -> dict:
  """Trains the networks, with and without logits; their parameters by name.

  Both see the same batches.
  """
  knobs = config.refine
  optimizer = optax.adam(optax.cosine_decay_schedule(knobs.lr, knobs.steps))
  params = {name: _init(config, net) for name, net in nets.items()}
  answer = evaluate.make_answer(config, model, training.key_root(config))

  def update(params, state, variables, batch):
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

  update = jax.jit(update, donate_argnums=(0, 1))
  params = jax.device_put(params, sharding.replicated(mesh))
  state = optimizer.init(params)
  augment = make_augment(config.data)
  batches = train_batches(
      source, augment, batch_size=config.batch_size, seed=config.seed,
      first_step=0, last_step=knobs.steps,
  )
  for step, batch in enumerate(batches, 1):
    batch = sharding.put_batch(batch, mesh)
    params, state, each = update(params, state, variables, batch)
    if step % config.log_every == 0 or step == knobs.steps:
      shown = ", ".join(f"{name} {loss:.4f}" for name, loss in each.items())
      print(f"refiner step {step}/{knobs.steps}  loss: {shown}", flush=True)
  return params


def _filtered(
    images: jax.Array, logits: jax.Array, radius: int, eps: float
) -> jax.Array:
  return guided_filter(images, jax.nn.softmax(logits), radius, eps)


def choose_filter(
    config: ml_collections.ConfigDict, model, variables: dict, source, mesh
) -> tuple[int, float]:
  """Radius and eps of the highest mIoU on the first images of the source."""
  choices = list(itertools.product(config.refine.radii, config.refine.eps))
  functions = {
      (radius, eps): functools.partial(_filtered, radius=radius, eps=eps)
      for radius, eps in choices
  }
  results = measure(
      config, model, variables, functions, source, mesh,
      count=config.refine.filter_images,
  )
  return max(choices, key=lambda choice: results[choice]["miou"] or 0.0)


def measure(
    config: ml_collections.ConfigDict,
    model,
    variables: dict,
    functions: dict[object, Callable],
    source,
    mesh,
    count: int = 0,
    panels: Path | None = None,
) -> dict[object, dict]:
  """The figures of each function (plain images, logits) -> scores.

  Args:
    config: of the segmenter.
    model: the segmenter.
    variables: its variables, on the mesh.
    functions: by name; scores are [B, H, W, K].
    source: to measure on.
    mesh: of the devices.
    count: how many images; 0: as `eval.images` says.
    panels: folder in which `panels_refine_<name>/` go, or None.

  Returns:
    By name what `evaluate.evaluate` returns.
  """
  space = source.label_space
  count = min(count or config.eval.images or len(source), len(source))
  answer = evaluate.make_answer(config, model, training.key_root(config))

  @jax.jit
  def step(variables, batch):
    images, logits = answer(variables, batch)
    predictions = [
        function(batch["image"], logits).argmax(-1).astype(jnp.uint8)
        for function in functions.values()
    ]
    counts = [
        metrics.confusion(batch["label"], labels, space.num_classes)
        for labels in predictions
    ]
    return jnp.stack(counts), images, jnp.stack(predictions)

  total = np.zeros((len(functions), *(space.num_classes,) * 2), np.int64)
  for batch in eval_batches(source, count, batch_size=config.batch_size):
    counts, seen, predictions = step(
        variables, sharding.put_batch(batch, mesh)
    )
    total += np.asarray(counts)
    for i, index in enumerate(batch["index"] if panels else ()):
      for name, labels in zip(functions, predictions, strict=True):
        if 0 <= index < config.panels:
          evaluate.save_panel(
              config, space,
              panels / f"panels_refine_{name}" / f"{index:04d}.png",
              batch["image"][i], np.asarray(seen[i]), batch["label"][i],
              np.asarray(labels[i]), f"prediction ({name})",
          )
  return {
      name: evaluate.as_result(matrix, space, count)
      for name, matrix in zip(functions, total, strict=True)
  }


def report(results: dict[str, dict]) -> str:
  """The figures as text for a terminal."""
  return "\n".join(
      f"  {name:<10} mIoU {result['miou'] or 0:.4f}, pixel accuracy"
      f" {result['pixel_accuracy'] or 0:.4f}"
      for name, result in results.items()
  )
