"""Label spaces."""

import numpy as np
import pytest

from ppseg_jax.data.labels import CAMVID, CITYSCAPES, VOID
from ppseg_jax.errors import UserError


def test_label_spaces_map_raw_ids_and_refuse_unknown_ones():
  raw = np.array([[7, 33], [0, 11]], np.uint8)
  train = CITYSCAPES.to_train_ids(raw, "x.png")
  assert train.tolist() == [[0, 18], [VOID, 2]]
  with pytest.raises(UserError, match=r"x\.png: label ids \[12, 200\]"):
    CAMVID.to_train_ids(np.array([[3, 12, 200]], np.uint8), "x.png")
  for space in (CITYSCAPES, CAMVID):
    assert len(space.names) == len(space.colours) == len(set(space.colours))
    used = set(space.raw_to_train.values()) - {VOID}
    assert used == set(range(space.num_classes))


@pytest.mark.parametrize("space", [CAMVID, CITYSCAPES])
def test_raw_ids_are_the_inverse_of_train_ids(space):
  classes = np.arange(space.num_classes, dtype=np.uint8)
  raw = space.to_raw_ids(classes)
  np.testing.assert_array_equal(space.to_train_ids(raw, "x"), classes)
  void = np.array([VOID], np.uint8)
  first = next(i for i, train in space.raw_to_train.items() if train == VOID)
  assert space.to_raw_ids(void) == [first]
