import json

import numpy as np
import pytest

from ppseg_jax import class_weights, command, train
from ppseg_jax import config as config_checks
from ppseg_jax.data.labels import VOID, LabelSpace
from ppseg_jax.errors import UserError
from ppseg_jax.runs import weights
from tests.helpers import ROOT, tiny_config

SPACE = LabelSpace(
    "three", ("a", "b", "c", "d"), ((0, 0, 0),) * 4, {i: i for i in range(4)}
)


class Labels:
  label_space = SPACE

  def __init__(self, *labels):
    self.labels = [np.array(each, np.uint8) for each in labels]

  def __len__(self):
    return len(self.labels)

  def __getitem__(self, index):
    labels = self.labels[index]
    return np.zeros((*labels.shape, 3), np.uint8), labels


# a: 5 of 12 pixels, b: 3 of 8 (it is not in the second image), c: 4 of 12.
SOURCE = Labels([[0, 0, 0, 1], [1, 2, 2, 1], [VOID] * 4],
                [[0, 0, 2, 2]])
WEIGHTS = {"a": (3 / 8) / (5 / 12), "b": 1.0, "c": (3 / 8) / (4 / 12), "d": 1.0}


def test_weights_are_median_frequency_over_frequency_where_a_class_occurs():
  pixels, around = class_weights.count(SOURCE)
  assert pixels.tolist() == [5, 3, 4, 0] and around.tolist() == [12, 8, 12, 0]
  found = class_weights.median_frequency(pixels, around)
  np.testing.assert_allclose(found, list(WEIGHTS.values()))


def test_weights_are_made_once_and_kept_for_a_run_that_goes_on(tmp_path):
  config = tiny_config(loss__class_weights=("median_frequency",))
  path = tmp_path / "class_weights.json"
  made = weights.with_weights(config, path, SOURCE)
  assert made.loss.class_weights == pytest.approx(tuple(WEIGHTS.values()))
  assert json.loads(path.read_text())["weights"] == pytest.approx(WEIGHTS)
  assert config.loss.class_weights == ("median_frequency",)

  again = weights.with_weights(config, path, Labels([[0]]))
  assert again.loss.class_weights == made.loss.class_weights
  stored = json.loads(path.read_text())
  del stored["weights"]["d"]
  path.write_text(json.dumps(stored))
  with pytest.raises(UserError, match="does not hold the weights"):
    weights.with_weights(config, path, SOURCE)


def test_numbers_stay_and_labels_without_a_class_are_refused(tmp_path):
  path = tmp_path / "class_weights.json"
  config = tiny_config(loss__class_weights=(1.0, 2.0))
  assert weights.with_weights(config, path, SOURCE) is config
  config = tiny_config(loss__class_weights=("median_frequency",))
  with pytest.raises(UserError, match="all are void"):
    weights.with_weights(config, path, Labels([[VOID]]))
  assert not path.exists()


def test_the_command_line_names_the_method_as_a_word(monkeypatch):
  monkeypatch.chdir(ROOT)
  given = command.parse(
      ["--config=configs/setr_enc.py",
       "--config.loss.class_weights=median_frequency"], "", "", lambda _: None,
  )
  config = config_checks.resolve(given.config)
  assert class_weights.method_of(config) == "median_frequency"
  config_checks.check_classes(config, SPACE)  # numbers would have to be four


def test_a_training_learns_by_the_weights_and_keeps_the_word(
    tmp_path, monkeypatch, mini
):
  class Seen(Exception):
    pass

  def make_update(config, *_):  # what is in the folder goes when this fails
    raise Seen(config.loss.class_weights, *(
        json.loads((tmp_path / name).read_text())
        for name in ("class_weights.json", "config.json")
    ))

  monkeypatch.setattr(train, "make_update", make_update)
  config = tiny_config(
      loss__class_weights=("median_frequency",), data__train_images=4
  )
  with pytest.raises(Seen) as seen:
    train.train(config, tmp_path)
  learnt, stored, kept = seen.value.args
  assert learnt == tuple(stored["weights"].values())
  assert kept["loss"]["class_weights"] == ["median_frequency"]
  assert not (tmp_path / "class_weights.json").exists()
