"""Blocks in place in training; at the test hidden in bands of two rows.

python -m ppseg_jax.main --config=configs/setr_bands.py
python -m ppseg_jax.main --config=configs/setr_bands.py:camvid \
    --config.data.dir=/data/camvid
    mIoU 0.397 (0.008 over three seeds), in 2 minutes on 2 idle cores.

What a cloud then sees of a test picture are the histograms of each band, in no
order; docs/security.md has what attacks make of that.
"""

from ml_collections import ConfigDict

from ppseg_jax.configs import setr_enc


def get_config(data: str = "streets") -> ConfigDict:
  """The experiment on one of the data sets of `setr_enc.py`."""
  config = setr_enc.get_config(data)
  config.model.pos_region = (2, 0)
  config.model.stem = 0
  config.eval.scheme = "blockwise_bands2"
  config.eval.whole = True
  return config
