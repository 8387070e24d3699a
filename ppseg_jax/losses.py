"""Losses and objectives, in float32.

An objective is what a training lowers. It is made by a function of the config's
`loss` section, of the weight of auxiliary heads and of `load`, which gives the
model of another run by its folder, a teacher's say, as a function from images
to logits, or, with layers, to the encoder's features after these; it returns
(outputs, batch) -> loss, float32 []. Outputs are the model's `logits`,
[b, H, W, K], `aux`, logits of its auxiliary heads, and `features`, a function
from layers to the encoder's features, [b, h, w, D] each. What an objective does
not ask for is not computed. The batch has `image` (plain) and `seen` (as the
model was given it), uint8 [b, H, W, 3], `label`, uint8 [b, H, W], `index` and
`epoch`, int32 [b], and `total` and `images`, the weight of all pixels and the
number of images of the whole batch, of which these images may be a part: losses
of the parts add up to the batch's own. A new one is a function and a line in
OBJECTIVES.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import optax

from ppseg_jax.data.labels import VOID
from ppseg_jax.errors import UserError


def pixel_weights(
    labels: jax.Array, class_weights: tuple[float, ...] = ()
) -> jax.Array:
  """What each pixel counts, float32 [B, H, W]: its class's weight, void 0.

  Args:
    labels: int [B, H, W], train ids or VOID.
    class_weights: one a class; empty for 1 each.
  """
  counted = (labels != VOID).astype(jnp.float32)
  if not class_weights:
    return counted
  table = jnp.array(class_weights, jnp.float32)
  return counted * table[jnp.minimum(labels, len(class_weights) - 1)]


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    class_weights: tuple[float, ...] = (),
    smoothing: float = 0.0,
    ohem: float = 0.0,
    ohem_kept: int = 0,
    total: jax.Array | None = None,
) -> jax.Array:
  """Weighted mean of the cross-entropy of all pixels that are not void.

  Args:
    logits: [B, H, W, K].
    labels: int [B, H, W], train ids or VOID.
    class_weights: one a class; empty for 1 each.
    smoothing: part of the target that is spread evenly over all classes.
    ohem: mine hard examples (Shrivastava et al., CVPR 2016), see `hard_pixels`;
      0 for all pixels. The mean stays that over all pixels, as in
      mmsegmentation, so that easy images weigh less.
    ohem_kept: pixels of each image that are kept at least.
    total: what to divide by, float32 []; None for the sum of the weights. For
      part of a batch give the sum over the whole batch: the parts' losses and
      gradients then add up to the batch's own, to rounding.

  Returns:
    float32 []; 0 where every pixel is void.
  """
  logits = logits.astype(jnp.float32)
  # A one-hot product: on a CPU its gradient is faster than a gather's.
  targets = jax.nn.one_hot(labels, logits.shape[-1])  # all zero for void
  per_pixel = optax.softmax_cross_entropy(logits, targets)
  weights = pixel_weights(labels, class_weights)
  if total is None:
    total = weights.sum()
  if ohem:
    weights = weights * hard_pixels(per_pixel, labels, ohem, ohem_kept)
  if smoothing:
    targets = optax.smooth_labels(targets, smoothing)
    per_pixel = optax.softmax_cross_entropy(logits, targets)
  # where, not the product alone: a void pixel's loss may be infinite.
  summed = jnp.where(weights > 0, weights * per_pixel, 0).sum()
  return summed / jnp.where(total > 0, total, 1)


def hard_pixels(
    per_pixel: jax.Array, labels: jax.Array, threshold: float, kept: int
) -> jax.Array:
  """True where the label's probability is below a threshold, bool [B, H, W].

  The threshold is raised, image by image, until `kept` pixels are below it (all
  of them, in an image with fewer). mmsegmentation raises it for the batch as a
  whole; by image the choice does not depend on how a batch is cut up.

  Args:
    per_pixel: cross-entropy without smoothing, float32 [B, H, W].
    labels: int [B, H, W], train ids or VOID.
    threshold: of the probability, 0 to 1.
    kept: pixels an image.
  """
  probability = jnp.exp(-jax.lax.stop_gradient(per_pixel))
  probability = jnp.where(labels == VOID, 2.0, probability)
  ordered = jnp.sort(probability.reshape(len(labels), -1), axis=-1)
  raised = ordered[:, min(kept, ordered.shape[1] - 1)]
  threshold = jnp.maximum(raised, threshold)[:, None, None]
  return (probability < threshold) & (labels != VOID)


def segmentation(
    config: ml_collections.ConfigDict,
    aux_weight: float,
    load: Callable,
) -> Callable[[dict, dict], jax.Array]:
  """Cross-entropy, and `aux_weight` times that of each auxiliary head.

  Auxiliary heads have the plain weighted loss, without mining.
  """
  del load
  weighting = {"class_weights": tuple(config.class_weights),
               "smoothing": config.smoothing}
  mining = {"ohem": config.ohem, "ohem_kept": config.ohem_kept}

  def objective(outputs: dict, batch: dict) -> jax.Array:
    labels, total = batch["label"], batch["total"]
    loss = cross_entropy(
        outputs["logits"], labels, total=total, **weighting, **mining
    )
    for extra in outputs["aux"]:
      loss += aux_weight * cross_entropy(
          extra, labels, total=total, **weighting
      )
    return loss

  return objective


def features(
    config: ml_collections.ConfigDict, aux_weight: float, load: Callable
) -> Callable[[dict, dict], jax.Array]:
  """What the encoder's features lack of those that a teacher has of the plain
  images, after each of `teacher_layers` (0: the embedded patches).

  Labels and heads have no part in it, see `unlike`.
  """
  del aux_weight
  layers = tuple(config.teacher_layers)
  teacher = load(config.teacher, layers)

  def objective(outputs: dict, batch: dict) -> jax.Array:
    wanted = jax.lax.stop_gradient(teacher(batch["image"]))
    pairs = zip(outputs["features"](layers), wanted, strict=True)
    each = sum(unlike(ours, theirs) for ours, theirs in pairs)
    return each.sum() / (len(layers) * batch["images"])

  return objective


def unlike(ours: jax.Array, theirs: jax.Array) -> jax.Array:
  """How unlike features are, [b, h, w, D] both; float32 [b].

  The mean square of the difference, each token standardised over its channels,
  so that a few large ones do not decide: 2 for unrelated tokens, 0 for equal.

  Raises UserError for another grid or width than the teacher's.
  """
  if ours.shape != theirs.shape:
    raise UserError(
        f"the teacher's features are {theirs.shape[1:]} an image, but the"
        f" model's {ours.shape[1:]}; give it the teacher's model.patch and"
        " model.size."
    )

  def standard(x: jax.Array) -> jax.Array:
    return jax.nn.standardize(x.astype(jnp.float32), axis=-1)

  return ((standard(ours) - standard(theirs)) ** 2).mean((1, 2, 3))


def taught(
    config: ml_collections.ConfigDict, aux_weight: float, load: Callable
) -> Callable[[dict, dict], jax.Array]:
  """The segmentation loss, and `teacher_weight` times how far the prediction is
  from that of a teacher on the plain images (Hinton et al., 2015).

  That is the Kullback-Leibler divergence, over every pixel, void or not: images
  without labels have it too.
  """
  labelled = segmentation(config, aux_weight, load)
  teacher = load(config.teacher)

  def objective(outputs: dict, batch: dict) -> jax.Array:
    wanted = jax.nn.log_softmax(jax.lax.stop_gradient(teacher(batch["image"])))
    found = jax.nn.log_softmax(outputs["logits"].astype(jnp.float32))
    apart = (jnp.exp(wanted) * (wanted - found)).sum(-1).mean((1, 2))
    return labelled(outputs, batch) + (
        config.teacher_weight * apart.sum() / batch["images"]
    )

  return objective


OBJECTIVES = {
    "segmentation": segmentation,
    "features": features,
    "taught": taught,
}
TAUGHT = ("features", "taught")  # have a teacher
