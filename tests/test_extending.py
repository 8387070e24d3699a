"""The walks of docs/extending.md: applied to a copy of the tree, and used."""

import json
import re
import shutil
import subprocess
import sys

import jax
import numpy as np

from ppseg_jax.encryption import canonical, encrypt, fresh_keys, get_scheme
from tests.helpers import ROOT, photo

PAGE = (ROOT / "docs" / "extending.md").read_text()
EXAMPLE = ROOT / "tests" / "examples" / "colours.py"

# Trains with all that the walks add, and attacks with it.
USE = """
import json
from pathlib import Path
import numpy as np
from configs import setr_enc
from ppseg_jax import config, train
from ppseg_jax.attacks import ATTACKS, Budget, Knowledge
from ppseg_jax.encryption import get_scheme
from ppseg_jax.models.vit import SIZES, Size

SIZES["demo"] = Size(16, 2, 2)  # which compiles fast
c = setr_enc.get_config()
c.update(scheme="tests/examples/colours.py:COLOURS", steps=2, batch_size=4)
c.model.update(decoder="linear", patch_norm=True, stem=0)
c.loss.objective = "focal"
c.data.update(name="discs", height=16, width=24, train_images=4, val_images=4)
record = train.train(config.resolve(c), Path("run"))

# One colour, so that it is a ciphertext of itself.
images = np.full((1, 16, 24, 3), 100, np.uint8)
knowledge = Knowledge(images, get_scheme(c.scheme), 8)
found = ATTACKS["smooth"](knowledge, 0, Budget()).images
print(json.dumps([sorted(record.class_iou), record.protocol["scheme"],
                  int(abs(found.astype(int) - 100).max())]))
"""


def test_the_walks_work_as_they_are_shown(tmp_path):
  for name in ("ppseg_jax", "configs", "tests/examples"):
    shutil.copytree(ROOT / name, tmp_path / name)
  diffs = re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL)
  assert len(diffs) == 5  # and the scheme, which needs none
  subprocess.run(
      ["git", "apply", "-C1", "-"], input="".join(diffs),
      cwd=tmp_path, check=True, text=True,
      env={"PATH": "/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": str(tmp_path)},
  )
  done = subprocess.run(
      [sys.executable, "-c", USE], cwd=tmp_path, capture_output=True,
      text=True, timeout=600,
  )
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout.splitlines()[-1]) == [
      ["disc", "ground", "square"], "tests/examples/colours.py:COLOURS", 0
  ]


def test_the_scheme_on_the_page_is_the_example_and_hides_the_channels_order():
  shown = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
  assert shown == EXAMPLE.read_text()
  scheme = get_scheme(f"{EXAMPLE}:COLOURS")
  form = jax.jit(lambda image: canonical(scheme, image, 4))
  image = photo(8, 8)
  cipher = jax.jit(lambda key: encrypt(scheme, key, image, 4))(fresh_keys(1)[0])
  for other in (cipher, image[..., ::-1]):
    np.testing.assert_array_equal(form(other), form(image))
