"""Pictures that several tests attack."""

import numpy as np
import pytest
from PIL import Image

from tests.attacks.helpers import street
from tests.helpers import photo


@pytest.fixture(scope="session")
def scene():
  return street()[0]


@pytest.fixture(scope="session")
def others():
  """Scenes of other places, uint8 [12, H, W, 3]."""
  return np.stack([street(4, i)[0] for i in range(12)])


@pytest.fixture(scope="session")
def smooth():
  coarse = Image.fromarray(photo(96, 128)[::12, ::12])
  return np.asarray(coarse.resize((128, 96), Image.BICUBIC))
