"""The paper's method: one permutation an image, linear patch embedding.

Hirose, Imaizumi and Kiya, arXiv 2604.16523: every image is encrypted under a
key of its own, and an ordinary SETR is trained on the encrypted images. The
cipher falls to an attack on the ciphertext alone; it is here to be compared.

python -m ppseg_jax.main --config=configs/setr_paper.py
python -m ppseg_jax.main --config=configs/setr_paper.py:camvid \
    --config.data.dir=/data/camvid

mIoU 0.141 on the drawn scenes, in some 4 minutes on 2 cores; 0.243 (0.006 over
three seeds) on CamVid, in 2.
"""

from ml_collections import ConfigDict

from ppseg_jax.configs import setr_enc


def get_config(data: str = "streets") -> ConfigDict:
  """The experiment on one of the data sets of `setr_enc.py`."""
  config = setr_enc.get_config(data)
  config.scheme = "independent"
  config.model.form = "plain"
  config.model.stem = 0
  return config
