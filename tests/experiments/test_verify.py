"""What differs between a stored record and a measured one is said."""

import dataclasses
import functools
import json

import pytest

from ppseg_jax import verify
from ppseg_jax.errors import UserError
from ppseg_jax.runs import workdir
from ppseg_jax.runs.record import Record, read
from tests.experiments.helpers import record_of


def test_verify_compares_protocol_labels_and_figures():
  one = Record(**record_of(0, "a"))
  assert verify.compare(one, one) == []
  assert verify.compare(one, Record(**record_of(0, "b"))) == [
      "protocol: checkpoint_sha256 was a and is b"
  ]
  confusion = [list(row) for row in one.confusion]
  confusion[0][0] += 3
  changed = functools.partial(dataclasses.replace, one)
  lines = verify.compare(one, changed(confusion=confusion))
  assert len(lines) == 1 and lines[0].startswith("road: ")
  lines = verify.compare(changed(miou=0.9), one)
  assert len(lines) == 1 and lines[0].startswith("miou: 0.9 is stored")
  lines = verify.compare(one, changed(miou_interval=[0.1, 0.2]))
  assert len(lines) == 1 and "[0.1, 0.2] measured" in lines[0]
  wide = changed(boundary_iou=0.5, class_boundary_iou={"road": 0.5})
  assert len(verify.compare(wide, one)) == 2
  assert verify.compare(one, wide) == []  # of what was not stored


def test_a_record_without_the_later_figures_is_read(tmp_path):
  full = record_of(0, "a")
  later = ("frequency_weighted_iou", "mean_dice", "class_dice",
           "miou_interval", "image_miou")
  workdir.write_json(tmp_path / "old.json", {
      name: value for name, value in full.items() if name not in later
  })
  found = read(tmp_path / "old.json")
  assert found == dataclasses.replace(
      Record(**full), miou_interval=None, image_miou=None
  )
  for value in ({"miou": 0.5}, [1], {"confusion": [[1], [2, 3]],
                                     "class_iou": {"a": 1.0}}):
    (tmp_path / "other.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"other\.json is no record"):
      read(tmp_path / "other.json")


def test_verify_needs_a_finished_run(tmp_path):
  with pytest.raises(UserError, match=r"no result\.json"):
    verify.verify(tmp_path)
