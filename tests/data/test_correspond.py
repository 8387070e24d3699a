"""Which classes a model and another data set share."""

import numpy as np
import pytest

from ppseg_jax.data import spaces
from ppseg_jax.data.correspond import Translated, common
from ppseg_jax.data.labels import CAMVID, CITYSCAPES, VOID
from ppseg_jax.errors import UserError
from tests.data.helpers import Numbers


def names_of(shared):
  return shared.space.names


def test_finer_classes_of_the_model_count_as_the_data_sets():
  shared = common(CITYSCAPES, CAMVID)
  assert names_of(shared) == CAMVID.names  # every class has a counterpart
  sign = CAMVID.names.index("sign")
  assert [CITYSCAPES.names[i] for i in shared.members[sign]] == [
      "traffic light", "traffic sign"
  ]
  assert shared.of_labels[sign] == sign and shared.of_labels[VOID] == VOID


def test_finer_classes_of_the_data_set_count_as_the_models():
  shared = common(spaces.IDD_LITE, CITYSCAPES)
  assert names_of(shared) == spaces.IDD_LITE.names
  assert shared.members == tuple((i,) for i in range(7))
  vehicles = spaces.IDD_LITE.names.index("vehicles")
  for name in ("car", "bus", "bicycle"):
    assert shared.of_labels[CITYSCAPES.names.index(name)] == vehicles


def test_classes_without_a_counterpart_are_void():
  shared = common(CITYSCAPES, spaces.VOC2012)
  assert names_of(shared) == ("bicycle", "bus", "car", "motorbike", "person",
                              "train")
  cat = spaces.VOC2012.names.index("cat")
  assert shared.of_labels[cat] == VOID
  road = CITYSCAPES.names.index("road")
  assert all(road not in group for group in shared.members)


def test_two_unknown_spaces_share_classes_of_equal_names():
  shared = common(CITYSCAPES, spaces.ADE20K)
  assert set(names_of(shared)) == {*CITYSCAPES.names} & {*spaces.ADE20K.names}


def test_a_map_is_taken_from_the_config():
  shared = common(CAMVID, CITYSCAPES, "road=road, car = car,car=truck")
  assert names_of(shared) == ("road", "car")
  assert shared.of_labels[CITYSCAPES.names.index("truck")] == 1
  assert shared.members == ((3,), (8,))


@pytest.mark.parametrize("trained, tested, text, said", [
    (CAMVID, spaces.KVASIR_SEG, "", "no class of 'kvasir_seg'"),
    (CAMVID, CITYSCAPES, "lorry=truck", "'lorry' is none of the classes sky"),
    (CAMVID, CITYSCAPES, "car=lorry", "'lorry' is none of the classes road"),
    (CAMVID, CITYSCAPES, "car", "'' is none"),
    (CAMVID, CITYSCAPES, "car=car,car=bus,sky=car,sky=bus", "on both sides"),
])
def test_maps_that_fit_no_two_spaces_are_refused(trained, tested, text, said):
  with pytest.raises(UserError, match=said):
    common(trained, tested, text)


def test_a_translated_source_has_labels_of_the_shared_classes():
  shared = common(CITYSCAPES, CAMVID)
  source = Translated(Numbers(19), shared)
  assert source.label_space.names == CAMVID.names and len(source) == 19
  # The classes of Numbers are Cityscapes', but read here as CamVid's.
  assert [int(np.unique(source[i][1])[0]) for i in (0, 10, 11)] == [0, 10, VOID]
