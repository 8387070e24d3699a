"""Any source as a folder of PNG files, read back as it was."""

import numpy as np

from ppseg_jax import data
from ppseg_jax.data.__main__ import main
from tests.helpers import tiny_config

WORDS = (
    "export", "--config=configs/setr_enc.py", "--config.data.height=32",
    "--config.data.width=48", "--config.data.train_images=2",
    "--config.data.val_images=1",
)


def test_what_is_exported_is_read_back_as_it_was(tmp_path, capsys):
  folder = tmp_path / "streets"
  assert main([*WORDS, str(folder)]) == 0
  assert "3 pairs" in capsys.readouterr().out
  drawn = tiny_config(
      data__height=32, data__width=48, data__train_images=2, data__val_images=1
  ).data
  written = drawn.copy_and_resolve_references()
  written.update(name="folder", dir=str(folder))
  for split in ("train", "val"):
    one, other = data.load(drawn, split), data.load(written, split)
    assert len(one) == len(other)
    assert one.label_space.names == other.label_space.names
    for i in range(len(one)):
      for wanted, found in zip(one[i], other[i], strict=True):
        np.testing.assert_array_equal(wanted, found)


def test_nothing_is_exported_over_what_is_there(tmp_path, capsys):
  (tmp_path / "mine").write_text("precious")
  assert main([*WORDS, str(tmp_path)]) == 2
  assert "holds something" in capsys.readouterr().err
  assert [x.name for x in tmp_path.iterdir()] == ["mine"]
