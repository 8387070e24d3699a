"""Data sets by name."""

import pytest

from ppseg_jax import config as config_checks
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


def test_a_held_out_share_is_of_ones_own_data_alone():
  config = setr_enc.get_config().data
  config.val_share = 0.2
  with pytest.raises(UserError, match="no effect on data.name=streets"):
    data.load(config, "train")


@pytest.mark.parametrize("fields, said", [
    ({"eval.map": "a=b"}, "eval.map has no effect without eval.data_name"),
    ({"eval.data_dir": "x"}, "eval.data_dir has no effect without"),
    ({"eval.data_name": "camvid", "eval.split": "left_out",
      "data.leave_out": "1/2"}, "use eval.split=val"),
    ({"data.resize": "shorter", "refine.factor": 3, "data.width": 48},
     "refine.factor"),
    ({"data.resize": "none", "eval.scheme": "blockwise_scrambled"},
     "eval.whole=True"),
])
def test_fields_that_do_not_go_together_are_refused(fields, said):
  config = setr_enc.get_config()
  config.update_from_flattened_dict(fields)
  with pytest.raises(UserError, match=said):
    config_checks.resolve(config)


def test_a_test_is_on_the_trainings_data_or_on_what_eval_names():
  config = setr_enc.get_config("camvid")
  config.data.update(dir="/a", leave_out="1/5")
  assert data.of_test(config) is config.data
  config.eval.update(data_name="folder", data_dir="/b")
  found = data.of_test(config)
  assert (found.name, found.dir, found.leave_out) == ("folder", "/b", "")
  assert (config.data.name, config.data.dir) == ("camvid", "/a")
