"""The command line, used as a person would."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from tests.helpers import TINY, photo, run_main, write_camvid

pytestmark = pytest.mark.usefixtures("mini_file")

ENC = "--config=configs/setr_enc.py"
PLAIN = "--config=configs/setr_plain.py"


def assert_one_sentence(done, *parts):
  """Exit code 2 and one line on stderr that says all of the parts."""
  assert done.returncode == 2, done.stderr
  assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
  for part in parts:
    assert part in done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory, mini_file):
  """A finished tiny run: (workdir, what it printed)."""
  workdir = tmp_path_factory.mktemp("trained") / "run"
  done = run_main(ENC, *TINY, f"--workdir={workdir}")
  assert done.returncode == 0, done.stderr
  return workdir, done.stdout


def test_a_run_prints_progress_figures_and_where_everything_lies(trained):
  workdir, printed = trained
  assert "loss" in printed and "images/s" in printed and "left" in printed
  assert "mIoU" in printed and "pixel accuracy" in printed
  assert "traffic light" in printed
  assert printed.splitlines()[-1].startswith("done:")
  assert str(workdir) in printed.splitlines()[-1]


def test_a_workdir_says_what_the_run_was(trained):
  workdir, _ = trained
  result = json.loads((workdir / "result.json").read_text())
  matrix = np.array(result["confusion"])
  assert matrix.shape == (19, 19) and matrix.sum() == result["pixels"]
  hits = np.diag(matrix)
  union = matrix.sum(0) + matrix.sum(1) - hits
  assert result["miou"] == pytest.approx((hits / union)[union > 0].mean())
  assert result["pixel_accuracy"] == pytest.approx(hits.sum() / matrix.sum())
  assert len(result["class_iou"]) == 19 and result["images"] == 10
  assert result["protocol"]["scheme"] == "blockwise"
  assert len(result["protocol"]["checkpoint_sha256"]) == 64

  assert json.loads((workdir / "config.json").read_text())["steps"] == 4
  assert "jax" in json.loads((workdir / "versions.json").read_text())
  records = [json.loads(line)
             for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4]
  assert [r["step"] for r in records if "miou" in r] == [2, 4]
  assert list((workdir / "events").iterdir())
  panels = sorted((workdir / "panels").iterdir())
  assert len(panels) == 2 and Image.open(panels[0]).size[0] > 4 * 48


def test_an_encrypted_model_gives_the_same_figures_on_plain_images(trained):
  workdir, _ = trained
  done = run_main(ENC, *TINY, f"--workdir={workdir}", "--mode=eval",
                  "--config.eval.scheme=plain")
  assert done.returncode == 0, done.stderr
  plain = json.loads((workdir / "eval_plain.json").read_text())
  encrypted = json.loads((workdir / "result.json").read_text())
  assert plain["protocol"]["scheme"] == "plain"
  assert plain["confusion"] == encrypted["confusion"]


def test_a_plain_model_sees_something_else_in_encrypted_images(tmp_path):
  workdir = tmp_path / "plain"
  assert run_main(PLAIN, *TINY, f"--workdir={workdir}").returncode == 0
  done = run_main(PLAIN, f"--workdir={workdir}", *TINY[4:], "--mode=eval",
                  "--config.eval.scheme=blockwise", "--config.eval.images=4")
  assert done.returncode == 0, done.stderr
  result = json.loads(next(workdir.glob("eval_blockwise*.json")).read_text())
  assert result["images"] == 4
  own = json.loads((workdir / "result.json").read_text())
  assert own["images"] == 10 and own["protocol"]["scheme"] == "plain"


def test_the_same_command_again_measures_the_same_without_training(trained):
  workdir, _ = trained
  before = json.loads((workdir / "result.json").read_text())
  done = run_main(ENC, *TINY, f"--workdir={workdir}")
  assert done.returncode == 0 and "resuming at step 4 of 4" in done.stdout
  after = json.loads((workdir / "result.json").read_text())
  assert after["confusion"] == before["confusion"]


def test_predict_writes_ids_colours_and_overlay(trained, tmp_path):
  workdir, _ = trained
  Image.fromarray(photo(32, 64)).save(tmp_path / "one.png")
  Image.fromarray(photo(100, 90)).save(tmp_path / "two.png")
  (tmp_path / "notes.txt").write_text("not an image")
  done = run_main(ENC, *TINY, f"--workdir={workdir}", "--mode=predict",
                  f"--config.predict.dir={tmp_path}")
  assert_one_sentence(done, "two.png", "100x90 is not a multiple")
  assert not (workdir / "predict").exists()

  (tmp_path / "two.png").unlink()
  done = run_main(ENC, *TINY, f"--workdir={workdir}", "--mode=predict",
                  f"--config.predict.dir={tmp_path}")
  assert done.returncode == 0, done.stderr
  ids = np.asarray(Image.open(workdir / "predict" / "one_ids.png"))
  assert ids.shape == (32, 64) and ids.max() < 19
  for kind in ("colour", "overlay"):
    picture = np.asarray(Image.open(workdir / "predict" / f"one_{kind}.png"))
    assert picture.shape == (32, 64, 3)


def test_predict_can_play_the_client_and_the_key_changes_nothing(
    trained, tmp_path
):
  workdir, _ = trained
  Image.fromarray(photo(100, 90)).save(tmp_path / "two.jpg")
  seen = []
  for scheme in ("plain", "blockwise", "blockwise"):
    done = run_main(ENC, *TINY, f"--workdir={workdir}", "--mode=predict",
                    f"--config.predict.dir={tmp_path}",
                    f"--config.predict.scheme={scheme}")
    assert done.returncode == 0, done.stderr
    seen.append(tuple(
        (workdir / "predict" / f"two_{kind}.png").read_bytes()
        for kind in ("ids", "overlay")
    ))
  assert len({ids for ids, _ in seen}) == 1  # the labels
  assert len({overlay for _, overlay in seen}) == 3  # what the cloud saw


def test_exported_weights_start_another_run_and_are_not_asked_for_again(
    trained, tmp_path
):
  workdir, _ = trained
  done = run_main(ENC, *TINY, f"--workdir={workdir}", "--mode=export")
  assert done.returncode == 0, done.stderr
  given = tmp_path / "given.safetensors"
  (workdir / "model.safetensors").rename(given)
  run = tmp_path / "run"
  args = (ENC, *TINY, "--config.steps=1", f"--config.model.pretrained={given}",
          f"--workdir={run}")
  done = run_main(*args, "--config.model.decoder=pup")
  assert_one_sentence(done, "head/", "pretrained_missing")
  assert not run.exists()

  done = run_main(*args)  # one step of warm-up: the learning rate is 0
  assert done.returncode == 0, done.stderr
  assert "parameters matched" in done.stdout
  report = json.loads((run / "pretrained.json").read_text())
  assert "encoder/block0/qkv/kernel" in report["matched"]
  old = load_file(given)
  given.unlink()
  for more in ((), ("--mode=export",)):
    done = run_main(*args, *more)
    assert done.returncode == 0, done.stderr
  new = load_file(run / "model.safetensors")
  assert new.keys() == old.keys()
  for name, value in old.items():
    if not name.startswith("batch_stats"):
      np.testing.assert_array_equal(new[name], value, err_msg=name)


@pytest.mark.parametrize("args, parts", [
    ([ENC, "--config.nosuch=3"], ["no field", "nosuch"]),
    ([ENC, "--config.model.embd=3"], ["no field", "embed"]),
    ([ENC, "--config.steps=abc"], ["steps", "abc"]),
    ([ENC, "--config.steps=0"], ["steps=0", "at least 1"]),
    ([ENC, "--config.data.height=100"], ["data.height=100", "96 or 104"]),
    ([ENC, "--config.batch_size=6", "--config.mesh.data=4"], ["mesh.data=4"]),
    ([ENC, "--config.scheme=rot13"], ["rot13", "blockwise"]),
    ([ENC, "--config.scheme=independent"], ["model.form", "scope 'image'"]),
    ([ENC, "--config.key_plan=daily"], ["daily", "epoch"]),
    (["--config=configs/none.py"], ["configs/none.py"]),
    (["--config=configs/setr_enc.py:mars"], ["mars", "camvid"]),
    (["--config=configs/setr_enc.py:camvid", "--config.data.dir=/nowhere"],
     ["/nowhere", "SegNet"]),
    (["--config=configs/setr_enc.py:cityscapes"],
     ["leftImg8bit_trainvaltest.zip", "cityscapes-dataset.com"]),
    ([ENC, "--config.model.pretrained=/nowhere.npz"], ["/nowhere.npz"]),
    ([ENC, "--config.model.decoder=fcn"], ["fcn", "naive, pup, mla"]),
    ([ENC, "--mode=eval"], ["no trained model"]),
    ([ENC, "--mode=predict"], ["predict.dir"]),
    ([ENC, "--mode=dance"], ["dance"]),
    ([ENC, "train"], ["train"]),
    ([], ["--config"]),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_gets_one_sentence_and_leaves_nothing(args, parts, tmp_path):
  workdir = tmp_path / "run"
  done = run_main(*args, f"--workdir={workdir}")
  assert_one_sentence(done, *parts)
  assert not workdir.exists()


def test_a_workdir_of_another_config_is_left_alone(trained):
  workdir, _ = trained
  before = {path: path.read_bytes() for path in workdir.rglob("*")
            if path.is_file()}
  done = run_main(ENC, *TINY, "--config.seed=5", f"--workdir={workdir}")
  assert_one_sentence(done, "seed is 0 there and 5 now", "--workdir")
  assert before == {path: path.read_bytes() for path in workdir.rglob("*")
                    if path.is_file()}


def test_a_checkpoint_of_another_model_is_refused(trained):
  workdir, _ = trained
  done = run_main(ENC, *TINY, f"--workdir={workdir}", "--mode=eval",
                  "--config.model.size=tiny")
  assert_one_sentence(done, "model.size is demo there and tiny now")
  (workdir / "config.json").rename(workdir / "config.hidden")
  try:
    done = run_main(ENC, *TINY, f"--workdir={workdir}",
                    "--config.model.size=tiny")
  finally:
    (workdir / "config.json").unlink(missing_ok=True)
    (workdir / "config.hidden").rename(workdir / "config.json")
  assert_one_sentence(done, "of another model", "(32,)", "(192,)")


@pytest.mark.parametrize("spoil, part", [
    (lambda folder: (folder / "images" / "001.png").write_bytes(b"?"),
     "not a readable picture"),
    (lambda folder: Image.new("L", (80, 60), 99).save(
        folder / "labels" / "001.png"), "label ids [99]"),
])
def test_a_bad_file_met_while_training_stops_with_its_path(
    spoil, part, tmp_path
):
  folder = write_camvid(tmp_path / "camvid")
  spoil(folder / "train")
  done = run_main("--config=configs/setr_enc.py:camvid", *TINY,
                  f"--config.data.dir={folder}",
                  f"--workdir={tmp_path / 'run'}")
  assert_one_sentence(done, "001.png", part)
