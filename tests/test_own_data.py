"""A run on data of one's own, from its images to a test on other data."""

import json

import numpy as np
import pytest
from PIL import Image

from ppseg_jax.data.labels import CAMVID
from tests.helpers import photo, run_main, write_camvid

PLAIN = "--config=configs/setr_plain.py"
NAMES = ("sky", "house", "pole", "road")  # of ids 0 to 3; the rest is void


def write_own(folder):
  """Pairs of two sizes whose labels show all four classes."""
  shown = np.array([[0, 1], [2, 3]], np.uint8)
  for split in ("train", "val"):
    for i, (height, width) in enumerate(((40, 60), (60, 40), (40, 60))):
      labels = np.kron(shown, np.ones((height // 2, width // 2), np.uint8))
      pixels = photo(height, width, i + 10 * (split == "val"))
      for kind, image in (("images", pixels), ("labels", labels)):
        path = folder / split / kind / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
  (folder / "classes.json").write_text(json.dumps([
      {"id": i, "name": name, "colour": [60 * i, 9, 9]}
      for i, name in enumerate(NAMES)
  ]))
  return folder


@pytest.fixture
def run(tmp_path, mini_flat):
  """(call of the command line on a finished run's folder, folder of data)."""
  folder = write_own(tmp_path / "own")
  words = (
      PLAIN, f"--workdir={tmp_path / 'run'}", "--config.steps=1",
      "--config.batch_size=8", "--config.data.height=32",
      "--config.data.width=48", "--config.panels=1",
      "--config.data.name=folder", f"--config.data.dir={folder}",
      "--config.data.resize=shorter", "--config.eval.at=original",
  )

  def call(*more):
    done = run_main(*words, *more)
    assert done.returncode == 0, done.stderr
    return done

  assert "images of 2 sizes" in call().stdout
  return call, folder, tmp_path / "run"


def test_a_run_explains_itself_without_its_data(run, tmp_path):
  call, folder, workdir = run
  result = json.loads((workdir / "result.json").read_text())
  assert set(result["class_iou"]) == set(NAMES)
  assert result["pixels"] == 3 * 40 * 60
  assert result["protocol"]["resize"] == "shorter"

  other = write_camvid(tmp_path / "camvid")
  call("--mode=eval", "--config.eval.data_name=camvid",
       f"--config.eval.data_dir={other}", "--config.eval.map=sky=sky,"
       "house=building,road=road,road=pavement")
  (path,) = workdir.glob("eval_plain_original_on_camvid_by*.json")
  found = json.loads(path.read_text())
  assert list(found["class_iou"]) == ["sky", "house", "road"]
  known = [CAMVID.names.index(name)
           for name in ("sky", "building", "road", "pavement")]
  assert found["pixels"] == sum(
      int(np.isin(np.asarray(Image.open(labels)), known).sum())
      for labels in (other / "val" / "labels").iterdir()
  )

  verified = call(
      "--mode=verify", "--config.eval.data_name=camvid",
      f"--config.eval.data_dir={other.rename(tmp_path / 'moved')}",
  )
  assert verified.stdout.count(": equal") == 2
  folder.rename(tmp_path / "gone")
  call("--mode=export")
  pictures = tmp_path / "pictures"
  pictures.mkdir()
  Image.fromarray(photo(50, 75)).save(pictures / "x.png")
  call("--mode=predict", f"--config.predict.dir={pictures}",
       "--config.predict.scheme=plain")
  ids = np.asarray(Image.open(workdir / "predict" / "x_ids.png"))
  assert ids.shape == (50, 75) and ids.max() < 4
