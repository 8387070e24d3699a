"""How like a reconstruction is to the plain image, in three figures.

None of them is a guarantee: a picture of low SSIM can be recognised.
"""

import numpy as np
from scipy.ndimage import correlate1d

PSNR_OF_EQUALS = 100.0  # stands for infinity, which JSON does not have

_SIGMA, _RADIUS = 1.5, 5  # of Wang et al.'s 11x11 window


def luma(images: np.ndarray) -> np.ndarray:
  """RGB [..., 3] -> ITU-R BT.601 luma, float64 [...]."""
  return images.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def _window(images: np.ndarray) -> np.ndarray:
  """Gaussian mean of [H, W] around each pixel whose window lies inside."""
  taps = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
  taps /= taps.sum()
  for axis in (0, 1):
    images = correlate1d(images, taps, axis)
  return images[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def ssim(one: np.ndarray, two: np.ndarray) -> float:
  """Structural similarity of the luma of two images, uint8 [H, W, 3].

  Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 2004: Gaussian window of 11x11 and
  sigma 1.5, K = (0.01, 0.03), the mean over all whole windows. H and W are at
  least 11.
  """
  return float(ssim_map(one, two)[0].mean())


def ssim_map(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, int]:
  """(`ssim` of each whole window, [H - 2r, W - 2r]; r, their radius)."""
  x, y = luma(one), luma(two)
  mean_x, mean_y = _window(x), _window(y)
  var_x = _window(x * x) - mean_x**2
  var_y = _window(y * y) - mean_y**2
  cov = _window(x * y) - mean_x * mean_y
  c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
  index = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
  index /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
  return index, _RADIUS


def psnr(one: np.ndarray, two: np.ndarray) -> float:
  """Peak signal to noise in dB over all values; 100 for equal images."""
  error = np.mean((one.astype(np.float64) - two.astype(np.float64)) ** 2)
  if error == 0:
    return PSNR_OF_EQUALS
  return float(min(10 * np.log10(255**2 / error), PSNR_OF_EQUALS))


def edge(one: np.ndarray, two: np.ndarray) -> float:
  """Correlation of the gradient magnitudes of the luma (Sobel), -1 to 1.

  0 where one of the images has no edge at all.
  """
  x, y = (_gradient(luma(image)).ravel() for image in (one, two))
  x, y = x - x.mean(), y - y.mean()
  scale = np.sqrt((x @ x) * (y @ y))
  return float(x @ y / scale) if scale > 0 else 0.0


def _gradient(image: np.ndarray) -> np.ndarray:
  smooth, slope = np.array([1.0, 2.0, 1.0]), np.array([-1.0, 0.0, 1.0])
  down = correlate1d(correlate1d(image, slope, 0), smooth, 1)
  across = correlate1d(correlate1d(image, smooth, 0), slope, 1)
  return np.hypot(down, across)


def scores(plain: np.ndarray, found: np.ndarray) -> dict[str, float]:
  """Mean SSIM, PSNR and edge correlation of two batches, uint8 [B, H, W, 3]."""
  pairs = list(zip(plain, found, strict=True))
  return {
      measure.__name__: float(np.mean([measure(*pair) for pair in pairs]))
      for measure in (ssim, psnr, edge)
  }
