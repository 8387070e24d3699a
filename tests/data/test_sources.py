"""Data sets by name."""

import pytest

from ppseg_jax import data
from ppseg_jax.configs import setr_enc
from ppseg_jax.errors import UserError


def test_streets_splits_share_no_scene():
  config = setr_enc.get_config().data
  config.update(height=32, width=48, train_images=5, val_images=5)
  scenes = [data.load(config, split)[i][0].tobytes()
            for split in ("train", "val") for i in range(5)]
  assert len(set(scenes)) == 10


def test_unknown_data_set_is_refused_by_name():
  config = setr_enc.get_config().data
  config.name = "mars"
  with pytest.raises(UserError, match="'mars' is none of streets"):
    data.load(config, "train")
