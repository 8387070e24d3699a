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
least. DP-Pix is the case of one group. Or, with `bits`, how many values of each
channel of a block have each of their upper bits, a coarse histogram: a pixel
that changes leaves one count and joins another in each channel, so that all
counts together change by at most 2 * pixels * channels in L1, and by
pixels * sqrt(2 * channels) in L2.

The noise is an integer drawn exactly (`noise`) from the keystream of a key that
is used for nothing else and forgotten. What is done with the noisy numbers
afterwards costs no privacy.
"""

import dataclasses
import math
import operator
from fractions import Fraction

import jax
import numpy as np

from ppseg_jax.encryption.blocks import join, split
from ppseg_jax.encryption.levels import check_noisy, upper
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

  def scale(self, channels: int, counts: bool = False) -> Fraction:
    """Of the discrete Laplace noise of a sum, or a count; of an epsilon alone.
    """
    return (2 if counts else 255) * self.pixels * channels / self.epsilon

  def variance(self, channels: int, counts: bool = False) -> Fraction:
    """Of the discrete Gaussian noise of a sum, or a count; of a rho alone."""
    change = (2 if counts else 255**2) * self.pixels**2 * channels
    return Fraction(change) / (2 * self.rho)

  def deviation(self, channels: int, counts: bool = False) -> float:
    """Standard deviation of the noise of a sum of values, or of a count."""
    if self.epsilon is None:
      return math.sqrt(self.variance(channels, counts))
    return math.sqrt(2) * float(self.scale(channels, counts))

  def of_mean(self, block: int, groups: int = 1, bits: int = 0) -> float:
    """Standard deviation in grey levels of a group's mean, in RGB images.

    With `bits` of the mean that follows from a block's noisy histogram.
    """
    if not bits:
      return self.deviation(3) / (block**2 // groups)
    centres = _centres(bits)
    spread = math.sqrt(((centres - centres.mean())**2).sum())
    return self.deviation(3, True) * spread / block**2

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
    groups: int = 1, bits: int = 0,
) -> np.ndarray:
  """An image that carries noisy means of a block's sorted values, no more.

  It is of the form of the level `q{groups}` (`levels`): in each block and
  channel `groups` numbers, ascending, each in as many places as it stands for.
  With `bits` it carries a noisy histogram instead, and is of the form of the
  level `b{bits}`.

  Args:
    image: uint8 [H, W, C].
    key: typed key [] from which the noise is drawn; for this image alone, and
      to be forgotten: whoever has it can take the noise off.
    budget: what it may tell.
    block: the side M of a block in pixels.
    groups: of the M*M sorted values of each channel of each block.
    bits: 1 to 8, upper ones that the values of a histogram have; 0: no
      histogram but means.

  Returns:
    uint8 [H, W, C].

  Raises:
    UserError: for a wrong size, type, number of groups or of bits.
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
  check_noisy(groups, bits, block)
  blocks = split(image[None], block)[0].reshape(-1, block**2, channels)
  # [N, K, C], and of what is made of K noisy numbers [N, M*M, C]
  exact = _counts(blocks, bits) if bits else _sums(blocks, groups)
  words, counts = Words(key), bool(bits)
  if budget.epsilon is not None:
    scale = budget.scale(channels, counts)
    noise = discrete_laplace(words, scale, exact.size)
  else:
    variance = budget.variance(channels, counts)
    noise = discrete_gaussian(words, variance, exact.size)
  noisy = exact + noise.reshape(exact.shape)
  values = _drawn_from(noisy, block**2) if bits else _means(noisy, block**2)
  carried = values.astype(np.uint8).reshape(1, -1, block, block, channels)
  return join(carried, (height // block, width // block))[0]


def _sums(blocks: np.ndarray, groups: int) -> np.ndarray:
  """uint8 [N, M*M, C] -> int64 [N, groups, C], of their sorted values."""
  count, places, channels = blocks.shape
  ordered = np.sort(blocks, axis=1).astype(np.int64)
  return ordered.reshape(count, groups, places // groups, channels).sum(2)


def _means(sums: np.ndarray, places: int) -> np.ndarray:
  """Noisy sums int [N, groups, C] -> ascending values [N, M*M, C]."""
  size = places // sums.shape[1]
  means = np.sort(sums / size, axis=1)
  return np.repeat(np.clip(np.rint(means), 0, 255), size, axis=1)


def _centres(bits: int) -> np.ndarray:
  """The values, int [2**bits], that level `b{bits}` leaves."""
  return np.unique(upper(np.arange(256), bits))


def _counts(blocks: np.ndarray, bits: int) -> np.ndarray:
  """uint8 [N, M*M, C] -> int64 [N, 2**bits, C], of values by upper bits."""
  found = upper(blocks, bits)
  return np.stack([(found == each).sum(1) for each in _centres(bits)], 1)


def _drawn_from(counts: np.ndarray, places: int) -> np.ndarray:
  """Noisy counts int [N, K, C] -> ascending values [N, M*M, C].

  Of the nearest histogram, in L2, of `places` values: noise leaves counts below
  0 and of another sum.
  """
  falling = -np.sort(-counts, axis=1)
  kept = np.arange(1, counts.shape[1] + 1)[:, None]
  excess = (np.cumsum(falling, axis=1) - places) / kept
  most = (falling > excess).sum(1, keepdims=True)  # counts that stay above 0
  nearest = np.maximum(
      counts - np.take_along_axis(excess, most - 1, axis=1), 0
  )
  # To whole numbers by largest remainders, which keeps the sum.
  whole = np.floor(nearest)
  missing = np.rint(places - whole.sum(1, keepdims=True))
  rank = np.argsort(np.argsort(whole - nearest, axis=1), axis=1)
  ends = np.cumsum(whole + (rank < missing), axis=1)  # [N, K, C]
  index = np.zeros((len(counts), places, counts.shape[2]), np.int64)
  for each in range(counts.shape[1] - 1):
    index += ends[:, each, None] <= np.arange(places)[:, None]
  return _centres((counts.shape[1] - 1).bit_length())[index]
