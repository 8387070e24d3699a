"""The model creator trains at home, on plain images of its own.

Encryption protects nobody then: it shows the model what it will meet. Every
image is augmented as one likes, plain, and encrypted under a fresh key each
time.

python -m ppseg_jax.main --config=configs/setr_home.py:camvid \
    --config.data.dir=/data/camvid --config.data.scale_min=0.5 \
    --config.data.scale_max=2.0 --config.data.photometric=0.5
"""

from ml_collections import ConfigDict

from ppseg_jax.configs import setr_enc


def get_config(data: str = "streets") -> ConfigDict:
  """The experiment on one of the data sets of `setr_enc.py`."""
  return setr_enc.at_home(setr_enc.get_config(data))
