"""One model for all that a client may choose to show.

Each training image is encrypted at a level drawn by its key, so that the model
reads a client's pictures at any of them; docs/levels.md says what they show.

python -m ppseg_jax.main --config=configs/setr_levels.py
python -m ppseg_jax.main --config=configs/setr_levels.py:camvid \
    --config.data.dir=/data/camvid
    2,000 steps: some 12 minutes on 2 cores; mIoU 0.472 at all of `blockwise`,
    0.477 at `q4`, 0.413 at `q1` (three seeds).
python -m ppseg_jax.main --config=configs/setr_levels.py:camvid \
    --config.data.dir=/data/camvid --mode=eval \
    --config.eval.scheme=blockwise_q4
    A test at one level.
"""

from ml_collections import ConfigDict

from ppseg_jax.configs import setr_enc


def get_config(data: str = "streets") -> ConfigDict:
  """The experiment on one of the data sets of `setr_enc.py`."""
  config = setr_enc.get_config(data)
  # Of the means alone twice as many: they are least like the others.
  config.levels = ("", "q16", "q4", "q4b5", "q1", "q1", "m2q4")
  config.model.spread = True
  if data != "streets":  # as long as four models of one level each
    config.steps *= 4
    config.eval.every *= 4
  return config
