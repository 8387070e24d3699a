"""Scores are those of scikit-image."""

import numpy as np
import pytest
from skimage import metrics

from ppseg_jax.attacks.parts.scores import edge, luma, psnr, scores, ssim
from tests.helpers import photo


@pytest.mark.parametrize("size", [(13, 12), (40, 56)])
def test_ssim_and_psnr_are_those_of_scikit_image(size):
  one, two = photo(*size, 0), photo(*size, 1)
  for other in (two, (one // 2 + two // 2), one):
    assert ssim(one, other) == pytest.approx(metrics.structural_similarity(
        luma(one), luma(other), data_range=255, gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False,
    ), abs=1e-9)
    if other is not one:
      assert psnr(one, other) == pytest.approx(
          metrics.peak_signal_noise_ratio(one, other, data_range=255)
      )


def test_equal_images_have_the_highest_scores_and_psnr_is_its_definition():
  image = photo(32, 32)
  assert scores(image[None], image[None]) == pytest.approx(
      {"ssim": 1, "psnr": 100, "edge": 1}
  )
  other = image.copy()
  other[image < 128] += 16
  other[image >= 128] -= 16
  assert psnr(image, other) == pytest.approx(20 * np.log10(255 / 16))
  assert edge(image, np.full_like(image, 9)) == 0
