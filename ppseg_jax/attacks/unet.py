"""Draws the picture from all that is known of each block, by a U-Net.

Assumes what `rank` does, and plain images of other places. The network sees the
picture that ranks give, at the size of a pixel, and on the grid of blocks the
sorted values of each and where it lies; it learns what to add. It is trained
until it stops gaining on other images that are held back. Like `likeliest` it
is a lower bound on the best attack on the canonical form; unlike that it sees
more values, and learns until nothing is gained.
Source: U-Net (Ronneberger, Fischer, Brox, 2015), in kind; the rest is this
project's.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ppseg_jax.attacks.parts import networks, surfaces
from ppseg_jax.attacks.parts.invariants import quantiles
from ppseg_jax.attacks.parts.knowledge import (
    Budget,
    Knowledge,
    Outcome,
    declare,
    level_of,
    refuse,
)
from ppseg_jax.attacks.parts.levels import apply_level
from ppseg_jax.encryption.keys import IMPL

# Chosen on frames of CamVid train at 96x128 with blocks of 8.
_QUANTILES = 16  # of each block, at most
_PICTURES, _ROUNDS = 6, 6  # of the picture that ranks give
_SSIM = 0.2  # weight of what differs in structure, beside the values
_LEARNING_RATE = 2e-3
_EVERY = 50  # steps between two looks at what is held back
_PATIENCE = 6  # looks without a gain


@declare(needs=("others",))
def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
  """The network's picture of each ciphertext.

  Notes: `steps`, after which it was best on what was held back, at most
  `budget.unet_steps`.

  Raises UserError for a scheme that `rank` does not take, a level of one number
  excepted, and without two other images or blocks of two pixels.
  """
  surfaces.check_ranks("unet", knowledge.scheme)
  if len(knowledge.others) < 2 or knowledge.block < 2:
    raise refuse("unet", knowledge.scheme,
                 "it needs two other images or more, and blocks of at least 2"
                 " pixels a side.")
  inputs = see(knowledge, knowledge.others, seed)
  targets = knowledge.others.astype(np.float32) / 127.5 - 1
  draw, steps = _fit(knowledge, inputs, targets, seed, budget.unet_steps)
  picture, grid = see(knowledge, knowledge.ciphertexts, seed)
  drawn = np.concatenate([
      np.asarray(draw(picture[i:i + 1], grid[i:i + 1]))
      for i in range(len(grid))
  ])
  images = np.clip(np.rint((drawn + 1) * 127.5), 0, 255).astype(np.uint8)
  return Outcome(images, {"steps": float(steps)})


def see(
    knowledge: Knowledge, images: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """What is known of images, plain or encrypted, uint8 [K, H, W, 3].

  Returns:
    (picture [K, H, W, 1 or 3], grid [K, h, w, F]), float32, -1 to 1.
  """
  level = level_of(knowledge.scheme)
  count = min(level.groups if level and level.groups else _QUANTILES,
              _QUANTILES)
  picture = surfaces.ranked(
      knowledge, apply_level(knowledge, images), seed, _ROUNDS, _PICTURES
  ) / 127.5 - 1
  rows, columns = knowledge.grid
  seen = quantiles(knowledge, images, count)
  seen = seen.reshape(len(images), rows, columns, -1)
  shape = (len(images), rows, columns)
  down = np.broadcast_to(np.linspace(-1, 1, rows)[:, None], shape)
  across = np.broadcast_to(abs(np.linspace(-1, 1, columns)), shape)
  grid = np.concatenate([seen, down[..., None], across[..., None]], -1)
  return picture.astype(np.float32), grid.astype(np.float32)


class UNet(nn.Module):
  """(picture [B, H, W, 1 or 3], grid [B, h, w, F]) -> [B, H, W, 3].

  From pixels down to the grid of blocks, in steps of two where the block's side
  allows it, and up again; what is drawn is added to the picture.
  """

  block: int
  widths: tuple[int, ...] = (32, 64, 96, 96, 96, 96)

  @nn.compact
  def __call__(self, picture: jax.Array, grid: jax.Array) -> jax.Array:
    strides, left = [], self.block
    while left % 2 == 0:
      strides, left = [*strides, 2], left // 2
    if left > 1:
      strides.append(left)
    x, kept = picture, []
    for stride, width in zip(strides, self.widths, strict=False):
      x = nn.Conv(width, (stride, stride), stride)(x)
      x = _residual(x)
      kept.append(x)
    x += nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(self.widths[-1])(grid)))
    for _ in range(3):
      x = _residual(x)
    for stride, skip in zip(strides[:0:-1], kept[-2::-1], strict=True):
      x = _upsample(nn.Dense(stride**2 * skip.shape[-1])(x), stride) + skip
      x = _residual(x)
    last = nn.Dense(strides[0]**2 * 3, kernel_init=nn.initializers.normal(0.01))
    return picture + _upsample(last(nn.gelu(x)), strides[0])


def _residual(x: jax.Array) -> jax.Array:
  return x + nn.Conv(x.shape[-1], (3, 3))(nn.gelu(nn.LayerNorm()(x)))


def _upsample(x: jax.Array, stride: int) -> jax.Array:
  """[B, h, w, stride * stride * C] -> [B, h * stride, w * stride, C]."""
  b, h, w, _ = x.shape
  x = x.reshape(b, h, w, stride, stride, -1).swapaxes(2, 3)
  return x.reshape(b, h * stride, w * stride, -1)


def loss(drawn: jax.Array, target: jax.Array) -> jax.Array:
  """Mean absolute error, and by how much the structures differ."""
  drawn = jnp.broadcast_to(drawn, target.shape)
  return jnp.abs(drawn - target).mean() + _SSIM * (1 - _ssim(drawn, target))


def _ssim(one: jax.Array, two: jax.Array) -> jax.Array:
  """Structural similarity of [B, H, W, 3], -1 to 1, in windows of 7x7."""
  x, y = (a @ jnp.array([0.299, 0.587, 0.114]) for a in (one, two))
  sums = jnp.stack([x, y, x * x, y * y, x * y], -1)
  mean_x, mean_y, xx, yy, xy = jnp.moveaxis(nn.avg_pool(sums, (7, 7)), -1, 0)
  c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
  index = (2 * mean_x * mean_y + c1) * (2 * (xy - mean_x * mean_y) + c2)
  spread = xx - mean_x**2 + yy - mean_y**2
  return (index / ((mean_x**2 + mean_y**2 + c1) * (spread + c2))).mean()


def _fit(knowledge: Knowledge, inputs, targets, seed: int, steps: int):
  """Trains; returns the network as a function, and how many steps it had."""
  held = max(1, len(targets) // 8)
  rng, m = np.random.default_rng(seed), knowledge.block
  model = UNet(knowledge.block)

  def batch():
    chosen = rng.integers(held, len(targets), networks.BATCH)
    y, x = networks.crop(rng, knowledge.grid)
    pixels = (slice(y.start * m, y.stop * m), slice(x.start * m, x.stop * m))
    cut = (inputs[0][chosen][:, *pixels], inputs[1][chosen][:, y, x],
           targets[chosen][:, *pixels])
    # mirrored streets are streets too
    return [a[:, :, ::-1] for a in cut] if rng.random() < 0.5 else cut

  params = model.init(jax.random.key(seed, impl=IMPL), *batch()[:2])
  optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, steps))

  @jax.jit
  def step(params, state, picture, grid, target):
    gradient = jax.grad(
        lambda p: loss(model.apply(p, picture, grid), target)
    )(params)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state

  draw = jax.jit(model.apply)
  judge = jax.jit(lambda p, a, b, c: loss(model.apply(p, a, b), c))
  state = optimizer.init(params)
  best, found, at = np.inf, params, 0
  for done in range(1, steps + 1):
    params, state = step(params, state, *batch())
    if done % _EVERY == 0 or done == steps:
      now = np.mean([
          judge(params, *(a[i:i + 1] for a in (*inputs, targets)))
          for i in range(held)
      ])
      if now < best:
        best, found, at = now, params, done
      elif done - at >= _PATIENCE * _EVERY:
        break
  return lambda *seen: draw(found, *seen), at
