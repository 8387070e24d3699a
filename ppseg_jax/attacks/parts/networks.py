"""The small networks that attackers train on images of other places."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ppseg_jax.encryption.keys import IMPL

BATCH = 8
CROP = 8  # blocks: what convolutions need to see of an image in training
_LEARNING_RATE = 2e-3


def crop(
    rng: np.random.Generator, grid: tuple[int, int]
) -> tuple[slice, slice]:
  """A random window of at most CROP x CROP blocks of the grid."""
  size = [min(CROP, blocks) for blocks in grid]
  top, left = (int(rng.integers(0, blocks - side + 1))
               for blocks, side in zip(grid, size, strict=True))
  return slice(top, top + size[0]), slice(left, left + size[1])


class Painter(nn.Module):
  """Features of each block, [B, h, w, F], to blocks of pixels.

  Convolutions over the grid of blocks, then over pixels: [B, h*M, w*M, 3].
  Where the features are `quantiles` values of each channel, what is drawn is
  added to their mean, upsampled.
  """

  block: int
  quantiles: int = 0
  width: int = 96

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    base = 0.0
    if self.quantiles:
      base = x.reshape(*x.shape[:3], self.quantiles, -1).mean(3)
      b, h, w, c = base.shape
      shape = (b, h * self.block, w * self.block, c)
      base = jax.image.resize(base, shape, "cubic")
    x = nn.gelu(nn.Dense(self.width)(x))
    for _ in range(3):
      x = x + nn.Conv(self.width, (3, 3))(nn.gelu(nn.LayerNorm()(x)))
    b, h, w, _ = x.shape
    m = self.block
    x = nn.Dense(m * m * 4)(nn.gelu(x)).reshape(b, h, w, m, m, 4)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * m, w * m, 4)
    last = nn.Conv(3, (5, 5), kernel_init=nn.initializers.normal(0.01))
    return last(x) + base


class Placer(nn.Module):
  """Features of a bag of blocks, [B, N, F], to logits of row and column.

  Each block sees itself and the mean and maximum of the bag: where it lay can
  only be told by what it is like, and what else there is.
  """

  rows: int
  columns: int
  width: int = 128

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.gelu(nn.Dense(self.width)(x))
    for _ in range(2):
      bag = jnp.concatenate([x.mean(1), x.max(1)], -1)[:, None]
      y = nn.Dense(self.width)(x) + nn.Dense(self.width)(bag)
      x = x + nn.Dense(self.width)(nn.gelu(nn.LayerNorm()(y)))
    return nn.Dense(self.rows + self.columns)(nn.gelu(x))


def fit(
    model: nn.Module,
    batch: Callable[[np.random.Generator], tuple[jax.Array, ...]],
    loss: Callable[..., jax.Array],
    steps: int,
    seed: int,
) -> Callable[[jax.Array], jax.Array]:
  """Trains with Adam and a cosine schedule; returns the jitted network.

  Args:
    model: from the first array of a batch.
    batch: draws a batch: the input and what `loss` compares the output with.
    loss: of (output, *rest of the batch).
    steps: of training.
    seed: of weights and batches.
  """
  rng = np.random.default_rng(seed)
  first, *_ = batch(rng)
  params = model.init(jax.random.key(seed, impl=IMPL), first)
  optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, steps))

  @jax.jit
  def step(params, state, inputs, *rest):
    def objective(params):
      return loss(model.apply(params, inputs), *rest)
    gradient = jax.grad(objective)(params)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state

  state = optimizer.init(params)
  for _ in range(steps):
    params, state = step(params, state, *batch(rng))
  apply = jax.jit(model.apply)
  return lambda inputs: apply(params, inputs)


def to_images(apply):
  """A network from features to values -1 to 1, as a function to uint8."""
  def paint(inputs: np.ndarray) -> np.ndarray:
    drawn = [np.asarray(apply(one[None]))[0] for one in inputs]
    return np.clip(np.rint((np.stack(drawn) + 1) * 127.5), 0, 255).astype(
        np.uint8
    )
  return paint
