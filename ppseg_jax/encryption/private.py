"""Releases with differential privacy, whose losses add up over pictures.

A level shows its value exactly, and several pictures of one scene show several
values, which together say more. Noise is what holds for any number of them: a
release is (epsilon)-differentially private, or rho-zCDP, where neighbours are
images that differ in at most `pixels` pixels, in any way (DP-Pix: Fan, DBSec
2018). It hides whether something that covers so few pixels is there, and says
nothing of what covers more. Of n pictures that show it, epsilon and rho add up
(Bun and Steinke, TCC 2016, who also turn rho into an epsilon, see `composed`).

What is released are sums of groups of a block's sorted values. Changing one
value of a list by d changes its sorted list by d in L1 (sorting is a
contraction), so that all group sums of an image together change by at most
255 * pixels * channels in L1 and 255 * pixels * sqrt(channels) in L2, in how
many groups ever: their noise is of one scale, and means of large groups suffer
least. DP-Pix is the case of one group.

The noise is an integer drawn exactly (`noise`) from the keystream of a key that
is used for nothing else and forgotten. What is done with the noisy sums
afterwards costs no privacy.
"""

import dataclasses
import math
import operator
from fractions import Fraction

import jax
import numpy as np

from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.encryption.noise import (
    Words,
    discrete_gaussian,
    discrete_laplace,
)
from ppseg_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Budget:
  """What a release may tell of `pixels` pixels.

  Attributes:
    pixels: in how many pixels neighbouring images may differ.
    epsilon: of differential privacy, by discrete Laplace noise; or None,
    rho: of zero-concentrated differential privacy, by discrete Gaussian noise.
  """

  pixels: int
  epsilon: Fraction | None = None
  rho: Fraction | None = None

  def __post_init__(self):
    # Python's own integers: others would wrap around, silently.
    object.__setattr__(self, "pixels", operator.index(self.pixels))
    for name in ("epsilon", "rho"):
      value = getattr(self, name)
      if value is not None:
        object.__setattr__(self, name, Fraction(value))
    if self.pixels < 1:
      raise UserError(f"pixels={self.pixels} must be at least 1.")
    if (self.epsilon is None) == (self.rho is None):
      raise UserError("a budget is either an epsilon or a rho; give one.")
    spent = self.rho if self.epsilon is None else self.epsilon
    if not 0 < spent <= 1000:
      raise UserError(
          f"a budget of {spent} must be above 0 and at most 1000."
      )

  def scale(self, channels: int) -> Fraction:
    """Of the discrete Laplace noise of a sum; of an epsilon alone."""
    return 255 * self.pixels * channels / self.epsilon

  def variance(self, channels: int) -> Fraction:
    """Of the discrete Gaussian noise of a sum; of a rho alone."""
    return Fraction((255 * self.pixels) ** 2 * channels) / (2 * self.rho)

  def deviation(self, channels: int) -> float:
    """Standard deviation of the noise of a sum of values."""
    if self.epsilon is None:
      return math.sqrt(self.variance(channels))
    return math.sqrt(2) * float(self.scale(channels))

  def composed(self, pictures: int, delta: float = 1e-6) -> tuple[str, float]:
    """(in words, its epsilon): what holds of pictures that all show the same.

    Of a rho the epsilon is the one at `delta`.
    """
    if self.epsilon is not None:
      total = float(pictures * self.epsilon)
      return f"epsilon {total:g}", total
    rho = float(pictures * self.rho)
    epsilon = rho + 2 * math.sqrt(rho * math.log(1 / delta))
    return f"rho {rho:g}, epsilon {epsilon:.3g} at delta {delta:g}", epsilon


def release(
    image: np.ndarray, key: jax.Array, budget: Budget, block: int = 16,
    groups: int = 1,
) -> np.ndarray:
  """An image that carries noisy means of a block's sorted values, no more.

  It is of the form of a level (`levels`): in each block and channel `groups`
  numbers, ascending, each in as many places as it stands for.

  Args:
    image: uint8 [H, W, C].
    key: typed key [] from which the noise is drawn; for this image alone, and
      to be forgotten: whoever has it can take the noise off.
    budget: what it may tell.
    block: the side M of a block in pixels.
    groups: of the M*M sorted values of each channel of each block.

  Returns:
    uint8 [H, W, C].

  Raises:
    UserError: for a wrong size, type or number of groups.
  """
  if image.dtype != np.uint8 or image.ndim != 3:
    raise UserError(
        f"a release needs an image uint8 [H, W, C], not {image.dtype} of shape"
        f" {image.shape}."
    )
  height, width, channels = image.shape
  if block < 1 or not height or not width or height % block or width % block:
    raise UserError(
        f"image size {height}x{width} is not a multiple of the block size"
        f" {block}; crop it. Padding or enlarging would repeat pixels, and each"
        " repetition counts in the budget's pixels."
    )
  places = block * block
  if groups < 1 or places % groups:
    raise UserError(
        f"groups={groups} must divide the {places} values of a block."
    )
  size = places // groups
  blocks = split(image[None], block)[0].reshape(-1, places, channels)
  ordered = np.sort(blocks, axis=1).astype(np.int64)
  sums = ordered.reshape(-1, groups, size, channels).sum(2)  # [N, groups, C]
  words = Words(key)
  if budget.epsilon is not None:
    noise = discrete_laplace(words, budget.scale(channels), sums.size)
  else:
    noise = discrete_gaussian(words, budget.variance(channels), sums.size)
  means = (sums + noise.reshape(sums.shape)) / size
  numbers = np.clip(np.rint(np.sort(means, axis=1)), 0, 255).astype(np.uint8)
  carried = np.repeat(numbers, size, axis=1).reshape(
      1, -1, block, block, channels
  )
  return join(carried, (height // block, width // block))[0]
