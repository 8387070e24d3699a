"""Images of another size than the model was trained on."""

import jax
import numpy as np

from ppseg_jax.evaluate import predict_logits, window_starts
from tests.helpers import make_setr, photo, random_variables


def test_windows_cover_the_image_and_lie_on_the_grid():
  assert window_starts(1024, 768, 512) == [0, 256]
  assert window_starts(2048, 768, 512) == [0, 512, 1024, 1280]
  assert window_starts(768, 768, 512) == [0]
  for size, window, stride in ((96, 32, 16), (112, 48, 48), (64, 64, 8)):
    covered = {p for s in window_starts(size, window, stride)
               for p in range(s, s + window)}
    assert covered == set(range(size))


def test_sliding_windows_average_what_each_window_says():
  model = make_setr("blockwise", grid=(4, 4))
  variables = random_variables(model, 32, 32)
  apply = jax.jit(model.apply)
  image = photo(48, 32)[None]
  logits = jax.jit(
      lambda variables, image: predict_logits(
          model, variables, image, (32, 32), 16
      )
  )(variables, image)
  upper = apply(variables, image[:, :32])
  lower = apply(variables, image[:, 16:])
  both = (upper[:, 16:] + lower[:, :16]) / 2
  expected = np.concatenate([upper[:, :16], both, lower[:, 16:]], axis=1)
  np.testing.assert_allclose(logits, expected, atol=1e-5)
