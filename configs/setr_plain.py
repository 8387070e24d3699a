"""The reference: the same SETR without encryption.

python -m ppseg_jax.main --config=configs/setr_plain.py
python -m ppseg_jax.main --config=configs/setr_plain.py:camvid \
    --config.data.dir=/data/camvid

mIoU 0.219 on the drawn scenes, in some 4 minutes on 2 cores; 0.369 (0.004 over
three seeds) on CamVid, in 2.
"""

from ml_collections import ConfigDict

from ppseg_jax.configs import setr_enc


def get_config(data: str = "streets") -> ConfigDict:
  """The experiment on one of the data sets of `setr_enc.py`."""
  config = setr_enc.at_home(setr_enc.get_config(data))
  config.scheme = "plain"
  config.model.form = "plain"
  config.model.stem = 0
  return config
