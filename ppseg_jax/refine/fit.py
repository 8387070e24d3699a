"""Fits the client's refinement to a trained segmenter, and measures it.

A segmenter's logits are better on the images it was trained on, and a refiner
that learns from those learns to trust them too much. The training images are
therefore cut in `refine.folds` parts; for each a segmenter of the same config
is trained on the others (in `<workdir>/folds/<part>`, resumed and reused like
any run), and the refiner learns from what it says of the part left out. At the
end it is tested on the logits of the workdir's own segmenter, which was trained
on all parts.
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

from ppseg_jax import (
    data,
    evaluate,
    losses,
    metrics,
    sharding,
    trained,
    workdir,
)
from ppseg_jax import train as training
from ppseg_jax.data.augment import make_augment
from ppseg_jax.data.pipeline import eval_batches, train_batches
from ppseg_jax.encryption import key_from_seed
from ppseg_jax.errors import UserError
from ppseg_jax.refine import network
from ppseg_jax.refine.guided import guided_filter

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
  # Else the segmenters it learns from would not be like the one it serves.
  workdir.check_config(folder, config.to_dict(), ignore=("eval.",))
  mesh = sharding.make_mesh(config.mesh)
  space, _ = data.SOURCES[config.data.name]
  nets = make_networks(config, space.num_classes)
  model, _, _ = trained.load(config, folder, space.num_classes, mesh)
  parts = [
      _fold(config, folder, number, mesh)
      for number in range(1, config.refine.folds + 1)
  ]
  params = fit(config, model, nets, parts, mesh)
  chosen = choose_filter(config, model, parts, mesh)
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


def _fold(config, folder, number, mesh):
  """(source of what was left out, variables of the segmenter without it)."""
  config = config.copy_and_resolve_references()
  part = f"{number}/{config.refine.folds}"
  leave_out = filter(None, (config.data.leave_out, part))
  config.data.leave_out = ",".join(leave_out)
  config.eval.split = "left_out"
  if config.start.workdir:  # what it starts from must not know the part either
    start = Path(config.start.workdir) / "folds" / str(number)
    config.start.workdir = str(start)
  source = data.load(config.data, "left_out")
  folder = folder / "folds" / str(number)
  if (folder / "result.json").exists():
    workdir.check_config(folder, config.to_dict(), ignore=("eval.",))
  else:
    print(f"segmenter without part {part} of train:", flush=True)
    training.train(config, folder)
  _, variables, _ = trained.load(
      config, folder, source.label_space.num_classes, mesh
  )
  return source, variables


def fit(
    config: ml_collections.ConfigDict, model, nets: dict, parts: list, mesh
) -> dict:
  """Trains the networks, with and without logits; their parameters by name.

  Each step takes a batch of the next part. Both networks see the same batches.
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
  streams = [
      train_batches(
          source, augment, batch_size=config.batch_size, seed=config.seed,
          first_step=0, last_step=-(-knobs.steps // len(parts)),
      ) for source, _ in parts
  ]
  for step in range(knobs.steps):
    place = step % len(parts)
    batch = sharding.put_batch(next(streams[place]), mesh)
    params, state, each = update(params, state, parts[place][1], batch)
    if (step + 1) % config.log_every == 0 or step + 1 == knobs.steps:
      shown = ", ".join(f"{name} {loss:.4f}" for name, loss in each.items())
      print(f"refiner step {step + 1}/{knobs.steps}  loss: {shown}", flush=True)
  return params


def _filtered(
    images: jax.Array, logits: jax.Array, radius: int, eps: float
) -> jax.Array:
  return guided_filter(images, jax.nn.softmax(logits), radius, eps)


def choose_filter(
    config: ml_collections.ConfigDict, model, parts: list, mesh
) -> tuple[int, float]:
  """Radius and eps of the highest mIoU on the first part that was left out."""
  choices = list(itertools.product(config.refine.radii, config.refine.eps))
  functions = {
      (radius, eps): functools.partial(_filtered, radius=radius, eps=eps)
      for radius, eps in choices
  }
  source, variables = parts[0]
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
