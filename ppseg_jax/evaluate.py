"""Evaluation of a whole split, under keys of the evaluation's own."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from ppseg_jax import config as config_checks
from ppseg_jax import data, distributed, metrics, sharding, viz
from ppseg_jax.data import check, encrypted, sizes
from ppseg_jax.data.correspond import Translated, common
from ppseg_jax.data.labels import LabelSpace
from ppseg_jax.data.pipeline import Source, eval_batches
from ppseg_jax.data.sizes import Size, resize, shaped_batches
from ppseg_jax.encryption import encrypt, get_scheme, layout
from ppseg_jax.models import bag
from ppseg_jax.models.adapt import adapted
from ppseg_jax.models.setr import SETR
from ppseg_jax.runs import keys, record, workdir
from ppseg_jax.runs import model as models
from ppseg_jax.runs.record import Record
from ppseg_jax.runs.workdir import Workdir
from ppseg_jax.windows import Windows, predict_logits, windows_of


def make_ask(
    model: SETR, scheme: str, block: int, windows: Windows
) -> Callable:
  """(variables, keys [B], images) -> (encrypted images, logits): what clients
  send and what they have in the end.

  Images uint8 [B, H, W, 3], logits float32 [B, H, W, K]. Where the scheme hides
  the layout the model is asked for the logits of each block, and they are put
  back in order.
  """
  hidden = get_scheme(scheme).hidden

  def ask(variables, keys, images):
    seen = encrypt(scheme, keys, images, block)
    if not hidden:
      return seen, predict_logits(model, variables, seen, windows)
    b, h, w, _ = images.shape
    logits = bag.block_logits(model, variables, seen)  # [B, N, K]
    grid = logits.reshape(b, h // block, w // block, -1)
    grid = layout.put_back(grid, scheme, keys)
    return seen, jax.image.resize(grid, (b, h, w, grid.shape[-1]), "bilinear")

  return ask


def make_answer(
    model: SETR, clients: keys.Clients, split: int, windows: Windows
) -> Callable:
  """(variables, batch) -> what `make_ask` gives for the split's own keys.

  Of images that come encrypted, their blocks moved, the logits of each block
  are those of all its pixels, where the block is.
  """
  ask = make_ask(model, clients.scheme, clients.block, windows)
  if clients.moved:
    def in_blocks(variables, batch):
      logits = model.apply(variables, batch["image"], upsample=False)
      return batch["image"], bag.per_pixel(logits, clients.block)

    return in_blocks

  def answer(variables, batch):
    return ask(variables, clients.keys(batch, split), batch["image"])

  return answer


# What a prediction is made of: (plain images uint8 [B, H, W, 3], logits that
# came back float32 [B, H, W, K]) -> scores [B, H, W, K].
Predictor = Callable[[jax.Array, jax.Array], jax.Array]
AS_RETURNED: dict[str, Predictor] = {"": lambda images, logits: logits}


def merged(
    members: tuple[tuple[int, ...], ...], images: jax.Array, logits: jax.Array
) -> jax.Array:
  """The largest logit of each group of classes: [B, H, W, K] -> [.., groups].

  Classes in no group are never predicted.
  """
  return jnp.stack(
      [logits[..., np.array(group)].max(-1) for group in members], -1
  )


def shows_plain(config: ml_collections.ConfigDict) -> bool:
  """Whether the images of `source_of` are plain, and not what clients sent."""
  return not config.private.pixels and (
      data.of_test(config).name != encrypted.NAME
  )


def source_of(config: ml_collections.ConfigDict, split: str) -> Source:
  """`data.load_test`; says of how many shapes the images are."""
  release = keys.releases(config, data.of_test(config), keys.SPLITS[split])
  source = data.load_test(config, split, release)
  shapes = len({*getattr(source, "shapes", ())})
  if shapes > 1 and distributed.first():
    print(f"{split}: images of {shapes} sizes, each compiled for", flush=True)
  return source


def make_step(
    answer: Callable, num_classes: int, mesh: Mesh,
    predictors: dict[str, Predictor] = AS_RETURNED, boundary: bool = False,
    of_logits: Callable[[Size], Size] = lambda labels: labels,
) -> Callable:
  """The jitted (variables, batch) -> (counts, encrypted images, predictions).

  Labels of a batch are of one size, H x W, and its images are at least as large
  as `of_logits` says of that size, h x w; what they have besides is padding.
  Scores are resized from h x w to H x W (bilinear) before the largest is taken.

  Counts are int32, on all devices: `confusion` [P, K, K] for P predictors, of
  the whole batch; `by_image` [B, P, 2, K], see `metrics.hits_and_unions`, of
  the images that `index` [B] names; with `boundary` also `boundary`
  [P, 2, K], see `metrics.boundary_hits_and_unions`. Images uint8
  [B, h, w, 3]; predictions uint8 [B, P, H, W].
  """
  def count(labels, predictions):
    matrices = metrics.confusion_by_image(labels, predictions, num_classes)
    counts = {"confusion": matrices.sum(0),
              "by_image": metrics.hits_and_unions(matrices)}
    if boundary:
      counts["boundary"] = metrics.boundary_hits_and_unions(
          labels, predictions, num_classes
      )
    return counts

  def step(variables, batch):
    images, logits = answer(variables, batch)
    wanted = batch["label"].shape[1:]
    height, width = of_logits(wanted)
    predictions = []
    for predict in predictors.values():
      scores = predict(batch["image"], logits)[:, :height, :width]
      if wanted != (height, width):
        shape = (len(scores), *wanted, scores.shape[-1])
        scores = jax.image.resize(scores, shape, "bilinear")
      predictions.append(scores.argmax(-1).astype(jnp.uint8))
    images = images[:, :height, :width]
    counts = [count(batch["label"], labels) for labels in predictions]
    counts = jax.tree.map(lambda *each: jnp.stack(each), *counts)
    counts["by_image"] = counts["by_image"].swapaxes(0, 1)
    counts["index"] = batch["index"]
    return counts, images, jnp.stack(predictions, 1)

  whole, split = sharding.replicated(mesh), sharding.batch_sharding(mesh)
  return jax.jit(step, out_shardings=(whole, split, split))


def evaluate(
    step: Callable,
    variables: dict,
    source: Source,
    mesh: Mesh,
    *,
    batch_size: int,
    images: int = 0,
    panels: dict[str, Path] | None = None,
    panel_count: int = 0,
    scheme: str = "",
    plain: bool = True,
    names: tuple[str, ...] = ("",),
    each_batch: Callable[[], None] = lambda: None,
) -> dict[str, Record]:
  """Runs a split through `make_step`'s step.

  Args:
    step: of `make_step`.
    variables: `params` and `batch_stats`, on the mesh.
    source: the split; batches are of one shape each, if it has `shapes`.
    mesh: of the devices.
    batch_size: of all devices together.
    images: how many of the source; 0 for all.
    panels: folders for sample panels, by predictor; None for none.
    panel_count: how many panels.
    scheme: named above what was encrypted in a panel.
    plain: whether the source's images are plain, and shown as well.
    names: of the step's predictors, in their order.
    each_batch: called before each batch; what it raises ends the evaluation.

  Returns:
    The figures by name of the predictor.
  """
  space = source.label_space
  count = min(images or len(source), len(source))
  totals = {"confusion": 0, "boundary": 0}  # arrays from the first batch on
  by_image, order = [], []
  rows = sharding.rows_here(mesh, batch_size)
  read = shaped_batches if hasattr(source, "shapes") else eval_batches
  batches = read(source, count, batch_size=batch_size, rows=rows)
  for batch in batches:
    each_batch()
    counts, seen, predictions = step(
        variables, sharding.put_batch(batch, mesh)
    )
    counts = jax.device_get(counts)
    for name in totals.keys() & counts.keys():
      totals[name] += counts[name].astype(np.int64)
    by_image.append(counts["by_image"])
    order.append(counts["index"])
    for i, index in enumerate(batch["index"]):
      if not panels or not 0 <= index < panel_count:
        continue
      encrypted = _row(seen, rows[i])
      if encrypted is None:  # another process has it, and draws it
        continue
      for labels, name in zip(_row(predictions, rows[i]), names, strict=True):
        if name in panels:
          save_panel(
              panels[name] / f"{index:04d}.png", space, scheme,
              batch["image"][i] if plain else None, encrypted,
              batch["label"][i], labels,
              f"prediction ({name})" if name else "prediction",
          )
  distributed.gather(None)  # all panels are there
  # In the source's order, whichever device an image was on, and without the
  # rows that fill up a batch.
  order, by_image = np.concatenate(order), np.concatenate(by_image)
  by_image = by_image[np.argsort(order)[(order < 0).sum():]]  # [N, P, 2, K]
  return {
      name: record.of_counts(
          totals["confusion"][place], space, count, by_image[:, place],
          totals["boundary"][place] if np.ndim(totals["boundary"]) else None,
      ) for place, name in enumerate(names)
  }


def save_panel(
    path: Path,
    space: LabelSpace,
    scheme: str,
    plain: np.ndarray | None,
    seen: np.ndarray,
    truth: np.ndarray,
    labels: np.ndarray,
    title: str,
) -> None:
  """Writes plain | encrypted | ground truth | prediction of an image.

  Image uint8 [H', W', 3], padded or not, or None where only a client has it;
  what was seen uint8 [H, W, 3], truth and predicted labels uint8 of any size.
  """
  size = seen.shape[:2]
  truth, labels = (
      resize(each, size, Image.Resampling.NEAREST) for each in (truth, labels)
  )
  shown = {} if plain is None else {"plain": plain[: size[0], : size[1]]}
  viz.save_png(path, viz.panel(shown | {
      f"encrypted ({scheme})": seen,
      "ground truth": space.colourise(truth),
      title: space.colourise(labels),
  }))


def _row(array: jax.Array, row: int) -> np.ndarray | None:
  """A row of a batch in the one process that holds its first copy, else None.
  """
  for shard in array.addressable_shards:
    at = row - (shard.index[0].start or 0)
    if shard.replica_id == 0 and 0 <= at < len(shard.data):
      return np.asarray(shard.data[at])
  return None


def report(result: Record) -> str:
  """The figures of a record, as text for a terminal."""
  if result.miou is None:
    return "no pixel counted: every label is void"
  lines = [f"  {name:<14}" + ("     -" if iou is None else f"{iou:6.3f}")
           for name, iou in result.class_iou.items()]
  within = ""
  if result.miou_interval:
    low, high = result.miou_interval
    within = f" (95 % of resamples: {low:.4f} to {high:.4f})"
  more = [f"mean Dice {result.mean_dice:.4f}"]
  if result.boundary_iou is not None:
    more.append(f"boundary IoU {result.boundary_iou:.4f}")
  return "\n".join([
      f"mIoU {result.miou:.4f}{within}, pixel accuracy"
      f" {result.pixel_accuracy:.4f}, {', '.join(more)} on {result.images}"
      " images; IoU by class:",
      *lines,
  ])


def evaluate_trained(
    config: ml_collections.ConfigDict, folder: Path
) -> Record:
  """Tests the last checkpoint of a run's folder under `config.eval`.

  Writes `eval_<name>.json` and the panels beside it; the training's own
  `result.json` stays as it is.
  """
  path, panels = Workdir(folder).test(record.name_of(config))
  result = measure(config, folder, panels)
  if distributed.first():
    record.write(path, result)
  return result


def measure(
    config: ml_collections.ConfigDict, folder: Path, panels: Path | None = None
) -> Record:
  """The record of the last checkpoint under `config.eval`."""
  split = config.eval.split
  if config.eval.data_name:
    # Before anything is compiled: a bad file ends a test in its first minute.
    distributed.once(lambda: check.scan(data.of_test(config), (split,)).lines())
  else:
    check.check_run(config.data, split, Workdir(folder).data)
  source = source_of(config, config.eval.split)
  mesh = sharding.make_mesh(config.mesh)
  config_checks.check_mesh(config, mesh.shape)
  if "shared" in (config.key_plan, config.eval.key_plan):
    # The seed is then the secret that the model was trained on.
    ignore = tuple(x for x in workdir.TRAINING if x != "seed")
    workdir.check_config(folder, config.to_dict(), ignore=ignore)
  space = models.label_space(config, folder)
  predictors = AS_RETURNED
  if config.eval.map or space.names != source.label_space.names:
    shared = common(space, source.label_space, config.eval.map)
    source = Translated(source, shared)
    predictors = {"": functools.partial(merged, shared.members)}
  trained = models.load(config, folder, space.num_classes, mesh)
  clients = keys.of_test(config)
  answer = make_answer(
      trained.model, clients, keys.SPLITS[config.eval.split],
      windows_of(config),
  )
  variables = trained.variables
  if config.eval.adapt:
    variables = adapted(
        variables, config.eval.scheme, keys.shared_key(config.seed),
        config.block,
    )
  result = evaluate(
      make_step(
          answer, source.label_space.num_classes, mesh, predictors,
          boundary=config.eval.boundary and not clients.moved,
          of_logits=sizes.of_logits(config),
      ), variables, source, mesh,
      batch_size=config.batch_size, images=config.eval.images,
      panels=panels and {"": panels}, panel_count=config.panels,
      scheme=config.eval.scheme,
      plain=shows_plain(config),
  )[""]
  return result.described(
      record.protocol(config, trained.step, trained.variables, trained.decay),
      config,
  )
