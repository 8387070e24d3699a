"""Evaluation of a whole split, under keys of the evaluation's own."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from ppseg_jax import metrics, sharding, viz
from ppseg_jax.data.labels import LabelSpace
from ppseg_jax.data.pipeline import Source, eval_batches
from ppseg_jax.encryption import encrypt, image_keys
from ppseg_jax.encryption.keys import EVAL
from ppseg_jax.models.setr import SETR


def window_starts(size: int, window: int, stride: int) -> list[int]:
  """Where windows start that cover 0 to size, the last ending at the edge."""
  starts = list(range(0, max(size - window, 0) + 1, stride))
  if starts[-1] + window < size:
    starts.append(size - window)
  return starts


def window_of(
    config: ml_collections.ConfigDict, size: tuple[int, int]
) -> tuple[int, int]:
  """(height, width) of the windows that images of this size are run in."""
  if config.eval.whole:
    return size
  return config.data.crop_height, config.data.crop_width


def predict_logits(
    model: SETR,
    variables: dict,
    images: jax.Array,
    window: tuple[int, int],
    stride: int,
    at_once: int = 1,
) -> jax.Array:
  """Logits of whole images, averaged where windows overlap.

  The windows are worked through one after another, so that besides the result
  there is the memory of `at_once` of them.

  Args:
    model: SETR.
    variables: `params` and `batch_stats`.
    images: uint8 [B, H, W, C].
    window: (height, width) of the model's input; images no larger are run
      whole.
    stride: between windows, in pixels, on the block grid.
    at_once: windows of each image that are run together.

  Returns:
    float32 [B, H, W, K].
  """
  batch, height, width, channels = images.shape
  rows, columns = min(window[0], height), min(window[1], width)
  if (height, width) == (rows, columns):
    return model.apply(variables, images)
  tops = window_starts(height, rows, stride)
  lefts = window_starts(width, columns, stride)
  corners = [(top, left) for top in tops for left in lefts]
  at_once = min(at_once, len(corners))
  # The last group is filled up with windows that count nothing.
  missing = -len(corners) % at_once
  weights = np.array([1.0] * len(corners) + [0.0] * missing, np.float32)
  corners = np.array(corners + corners[-1:] * missing)

  def add(total, group):
    corners, weights = group
    starts = [(0, corners[i, 0], corners[i, 1], 0) for i in range(at_once)]
    size = (batch, rows, columns, channels)
    windows = jnp.stack(
        [jax.lax.dynamic_slice(images, start, size) for start in starts], 1
    )  # an image's windows side by side: they stay on its device
    logits = model.apply(variables, windows.reshape(-1, *size[1:]))
    logits = logits.reshape(batch, at_once, rows, columns, -1)
    for i, start in enumerate(starts):
      part = logits[:, i]
      old = jax.lax.dynamic_slice(total, start, part.shape)
      part = old + weights[i] * part
      total = jax.lax.dynamic_update_slice(total, part, start)
    return total, None

  total, _ = jax.lax.scan(
      add,
      jnp.zeros((batch, height, width, model.num_classes)),
      (corners.reshape(-1, at_once, 2), weights.reshape(-1, at_once)),
  )
  # Windows are a grid: how many cover a pixel is a product of two counts.
  down, across = np.zeros(height, np.float32), np.zeros(width, np.float32)
  for top in tops:
    down[top : top + rows] += 1
  for left in lefts:
    across[left : left + columns] += 1
  return total / (down[:, None, None] * jnp.asarray(across)[:, None])


def make_answer(
    config: ml_collections.ConfigDict, model: SETR, key_root: jax.Array
) -> Callable:
  """(variables, batch) -> (encrypted images, logits): what a client sends and
  gets back.

  Images uint8 [B, H, W, 3], encrypted under keys that training never used
  (unless the plan is `shared`); logits float32 [B, H, W, K].
  """
  scheme, plan = config.eval.scheme, config.eval.key_plan

  def answer(variables, batch):
    keys = image_keys(
        plan, key_root, batch["index"], batch["epoch"], EVAL, config.clients
    )
    images = encrypt(scheme, keys, batch["image"], config.block)
    return images, predict_logits(
        model, variables, images, window_of(config, images.shape[1:3]),
        config.eval.stride, config.eval.windows,
    )

  return answer


def make_eval_step(
    config: ml_collections.ConfigDict,
    model: SETR,
    mesh: Mesh,
    key_root: jax.Array,
) -> Callable:
  """The jitted (variables, batch) -> (counts, encrypted images, predictions).

  Counts are those of `metrics.confusion`, summed over all devices; images
  uint8 [B, H, W, 3]; predictions uint8 [B, H, W]. Images are encrypted on the
  device, see `make_answer`.
  """
  answer = make_answer(config, model, key_root)

  def step(variables, batch):
    images, logits = answer(variables, batch)
    predictions = logits.argmax(-1).astype(jnp.uint8)
    counts = metrics.confusion(
        batch["label"], predictions, model.num_classes
    )
    return counts, images, predictions

  whole, split = sharding.replicated(mesh), sharding.batch_sharding(mesh)
  return jax.jit(step, out_shardings=(whole, split, split))


def evaluate(
    config: ml_collections.ConfigDict,
    step: Callable,
    variables: dict,
    source: Source,
    mesh: Mesh,
    panels: Path | None = None,
) -> dict:
  """Runs the split through `make_eval_step`'s step.

  Args:
    config: the run's.
    step: of `make_eval_step`.
    variables: `params` and `batch_stats`, on the mesh.
    source: the held-out split.
    mesh: of the devices.
    panels: folder for sample panels of the first `config.panels` images, or
      None.

  Returns:
    `metrics.summarise`'s figures, with `images`, `pixels` and `confusion`.
  """
  space = source.label_space
  count = min(config.eval.images or len(source), len(source))
  total = np.zeros((space.num_classes,) * 2, np.int64)
  batches = eval_batches(
      source, count, batch_size=config.batch_size,
      process=jax.process_index(), processes=jax.process_count(),
  )
  wanted = config.panels if panels and jax.process_index() == 0 else 0
  for batch in batches:
    counts, images, predictions = step(
        variables, sharding.put_batch(batch, mesh)
    )
    total += np.asarray(counts)
    for i in range(min(wanted, len(batch["index"]))):
      index = int(batch["index"][i])
      if 0 <= index < config.panels:
        save_panel(
            config, space, panels / f"{index:04d}.png", batch["image"][i],
            _row(images, i), batch["label"][i], _row(predictions, i),
        )
        wanted -= 1
  return as_result(total, space, count)


def save_panel(
    config: ml_collections.ConfigDict,
    space: LabelSpace,
    path: Path,
    plain: np.ndarray,
    seen: np.ndarray,
    truth: np.ndarray,
    labels: np.ndarray,
    title: str = "prediction",
) -> None:
  """Writes plain | encrypted | ground truth | prediction of an image.

  Images uint8 [H, W, 3], truth and predicted labels uint8 [H, W].
  """
  viz.save_png(path, viz.panel({
      "plain": plain,
      f"encrypted ({config.eval.scheme})": seen,
      "ground truth": space.colourise(truth),
      title: space.colourise(labels),
  }))


def as_result(matrix: np.ndarray, space: LabelSpace, images: int) -> dict:
  """Figures of a confusion matrix, int64 [K, K], with what they come from."""
  return {
      **metrics.summarise(matrix, space.names),
      "images": images,
      "pixels": int(matrix.sum()),
      "confusion": matrix.tolist(),
  }


def _row(array: jax.Array, i: int) -> np.ndarray:
  """Row i of this process's part of a batch."""
  shards = sorted(
      (shard for shard in array.addressable_shards if shard.replica_id == 0),
      key=lambda shard: shard.index[0].start or 0,
  )
  for shard in shards:
    if i < shard.data.shape[0]:
      return np.asarray(shard.data[i])
    i -= shard.data.shape[0]
  raise IndexError(i)


def report(result: dict) -> str:
  """The figures of a result, as text for a terminal."""
  if result["miou"] is None:
    return "no pixel counted: every label is void"
  lines = [f"  {name:<14}" + ("     -" if iou is None else f"{iou:6.3f}")
           for name, iou in result["class_iou"].items()]
  return "\n".join([
      f"mIoU {result['miou']:.4f}, pixel accuracy"
      f" {result['pixel_accuracy']:.4f} on {result['images']} images;"
      " IoU by class:",
      *lines,
  ])
