"""A trained segmenter judges reconstructions."""

import json

import numpy as np
import pytest

from ppseg_jax import config as config_checks
from ppseg_jax.attacks import recognition
from ppseg_jax.configs import setr_plain
from ppseg_jax.data.labels import CITYSCAPES
from ppseg_jax.errors import UserError
from ppseg_jax.runs import checkpoints
from ppseg_jax.runs import model as models
from tests.helpers import photo, random_variables


def test_a_segmenter_reads_what_it_was_trained_on_and_refuses_the_rest(
    tmp_path
):
  config = config_checks.resolve(setr_plain.get_config())
  config.data.update(height=32, width=96, crop_height=32, crop_width=48)
  config.eval.stride = 48
  model = models.make(config, 19)
  variables = random_variables(model, 32, 48)
  (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
  with pytest.raises(UserError, match="no finished checkpoint"):
    recognition.load(str(tmp_path), CITYSCAPES, "streets")
  manager = checkpoints.open_manager(tmp_path / "checkpoints", {})
  checkpoints.save(manager, 1, variables)
  manager.wait_until_finished()
  read = recognition.load(str(tmp_path), CITYSCAPES, "streets")
  images = np.stack([photo(32, 96, seed) for seed in range(3)])
  labels = np.concatenate([
      model.apply(variables, half).argmax(-1) for half in np.split(images, 2, 2)
  ], 2).astype(np.uint8)
  right = read(images, labels)
  assert right["miou"] == right["pixel_accuracy"] == 1.0
  assert {CITYSCAPES.names[i]: 1.0 for i in np.unique(labels)} == {
      name: iou for name, iou in right["class_iou"].items() if iou is not None
  }
  wrong = read(images[:1], labels[1:2])
  same = float((labels[0] == labels[1]).mean())
  assert wrong["pixel_accuracy"] == pytest.approx(same) and same < 1
  large = images.repeat(2, 1).repeat(2, 2)
  assert read(large, labels.repeat(2, 1).repeat(2, 2))["miou"] > 0.5
  with pytest.raises(UserError, match="data 'streets'; 'plain' and 'camvid'"):
    recognition.load(str(tmp_path), CITYSCAPES, "camvid")
  with pytest.raises(UserError, match="holds no trained model; train one"):
    recognition.load(str(tmp_path / "none"), CITYSCAPES, "streets")
