"""Prediction of a folder: what is taken, and what is written."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ppseg_jax import config as config_checks
from ppseg_jax import predict as prediction
from ppseg_jax.configs import setr_enc, setr_plain
from ppseg_jax.data.labels import CITYSCAPES
from ppseg_jax.errors import UserError
from tests.helpers import photo

HEIGHT, WIDTH = 32, 48


def make_config(folder="", module=setr_enc, **fields):
  config = module.get_config()
  config.data.height, config.data.width = HEIGHT, WIDTH
  config.predict.update(dir=str(folder), **fields)
  return config_checks.resolve(config)


def save(path, pixels, **options):
  Image.fromarray(pixels).save(path, **options)


def header(**fields):
  info = PngInfo()
  for name, value in {"format": "1", "scheme": "blockwise", "block": "8",
                      **fields}.items():
    info.add_text(f"ppseg_jax.{name}", value)
  return info


@pytest.fixture
def predict(monkeypatch, tmp_path):
  """Predicts `tmp_path/in` by a model that knows bright from dark."""
  def apply(variables, images):
    bright = jnp.float32(images).mean(-1, keepdims=True) - 127.5
    return jnp.concatenate(
        [-bright, bright, jnp.full((*bright.shape[:3], 17), -1e6)], -1
    )

  model = types.SimpleNamespace(apply=apply, num_classes=19)
  monkeypatch.setattr(
      prediction.models, "load",
      lambda *args: prediction.models.Trained(model, {}, 1, 0.0),
  )
  (tmp_path / "in").mkdir()

  def call(**fields):
    count = prediction.predict(
        make_config(tmp_path / "in", **fields), tmp_path / "run"
    )
    return count, tmp_path / "run" / "predict"

  return call


def pixels(path):
  with Image.open(path) as image:
    return np.asarray(image)


@pytest.mark.parametrize("fields, said", [
    ({"size": "41x29"}, None),
    ({"scheme": "independent", "size": "41x29"},
     "by 'independent', but this model reads blockwise"),
    ({"block": "16", "size": "40x29"}, "--block=8"),
    ({"size": "49x29"}, "another size"),
    ({"size": "0x29"}, "another size"),
    ({}, "damaged text"),
])
def test_a_ciphertext_must_fit_the_model_and_names_its_true_size(
    fields, said, tmp_path
):
  path = tmp_path / "cipher.png"
  save(path, photo(32, 48), pnginfo=header(**fields))
  if said is None:
    image, size = prediction._read(make_config(), path)
    assert image.shape == (32, 48, 3) and size == (29, 41)
    save(path, photo(32, 48))
    assert prediction._read(make_config(), path)[1] == (32, 48)
    return
  with pytest.raises(UserError, match=said):
    prediction._read(make_config(), path)


def test_labels_of_photos_have_the_size_of_the_photo(predict, tmp_path):
  image = np.zeros((90, 70, 3), np.uint8)
  image[:, 35:] = 255  # bright is class 1
  save(tmp_path / "in" / "tall.png", image)
  save(tmp_path / "in" / "small.jpg", photo(10, 20))
  count, out = predict(scheme="plain")
  assert count == 2
  ids = pixels(out / "tall_ids.png")
  assert ids.shape == (90, 70)
  assert (ids[:, :34] == 0).all() and (ids[:, 36:] == 1).all()
  for kind in ("colour", "overlay"):
    assert pixels(out / f"tall_{kind}.png").shape == (90, 70, 3)
    assert pixels(out / f"small_{kind}.png").shape == (10, 20, 3)


def test_largest_is_the_argmax_of_logits_resized_bilinearly():
  logits = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32)
  assert (prediction.largest(logits, (4, 6)) == logits.argmax(-1)).all()
  wide = prediction.largest(logits, (4, 60))
  assert wide.shape == (4, 60) and wide.dtype == np.uint8
  # in the middle of each of the former pixels stands what stood there
  left = logits[:, :-1] * 0.55 + logits[:, 1:] * 0.45
  np.testing.assert_array_equal(wide[:, 9:59:10], left.argmax(-1))


def test_ids_are_train_ids_or_the_first_raw_ids_of_the_label_space(
    predict, tmp_path
):
  save(tmp_path / "in" / "x.png", np.full((32, 48, 3), 255, np.uint8))
  _, out = predict(scheme="plain")
  assert (pixels(out / "x_ids.png") == 1).all()
  _, out = predict(scheme="plain", ids="raw")
  sidewalk = CITYSCAPES.to_raw_ids(np.uint8(1))
  assert sidewalk == 8 and (pixels(out / "x_ids.png") == sidewalk).all()
  with pytest.raises(UserError, match="predict.ids='both' must be one of"):
    make_config(ids="both")


@pytest.mark.parametrize("names", [
    ("a.bmp", "a.c.png", "a.png"), ("A.png", "a.bmp"), ("x.png", "x.webp"),
])
def test_names_that_would_write_the_same_files_are_refused(
    predict, tmp_path, names
):
  for name in names:
    save(tmp_path / "in" / name, photo(32, 48))
  with pytest.raises(UserError) as caught:
    predict(scheme="plain")
  assert names[0] in str(caught.value) and names[-1] in str(caught.value)
  assert not (tmp_path / "run").exists()


def test_what_is_no_picture_is_skipped_and_counted_in_one_line(
    predict, tmp_path, capsys
):
  folder = tmp_path / "in"
  save(folder / "x.png", photo(32, 48))
  save(folder / "._x.png", photo(32, 48))
  (folder / "more").mkdir()
  (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
  (folder / "paper.pdf").write_bytes(b"%PDF-1.7\n")
  (folder / "film.mpg").write_bytes(b"\0\0\1\xb3" + bytes(16))
  (folder / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(16))
  count, out = predict(scheme="plain")
  printed = capsys.readouterr().out
  assert count == 1 and len(list(out.iterdir())) == 3
  assert printed.count("\n") == 1 and "skipped, not a picture (6)" in printed


def test_bare_ciphertexts_are_counted_and_lossy_ones_refused(
    predict, tmp_path, capsys
):
  folder = tmp_path / "in"
  save(folder / "one.png", photo(32, 48), pnginfo=header(size="48x32"))
  predict()
  assert capsys.readouterr().err == ""
  save(folder / "two.png", photo(32, 48))
  save(folder / "three.webp", photo(32, 48), lossless=True)
  predict()
  err = capsys.readouterr().err
  assert err.count("\n") == 1
  assert err.startswith("warning: 2 of 3 pictures do not say")
  for name in ("lossy.webp", "lossy.jpg"):
    save(folder / name, photo(32, 48))
    with pytest.raises(UserError, match=f"{name} is compressed with loss"):
      predict()
    (folder / name).unlink()


def test_a_model_of_plain_images_takes_photos_as_they_are(tmp_path):
  save(tmp_path / "x.jpg", photo(32, 48))
  config = make_config(tmp_path, setr_plain)
  assert prediction._read(config, tmp_path / "x.jpg")[1] == (32, 48)


def test_a_picture_that_is_not_taken_is_named_before_anything_is_written(
    predict, tmp_path
):
  save(tmp_path / "in" / "a.png", photo(32, 48))
  (tmp_path / "in" / "b.avif").write_bytes(b"\0\0\0\x1cftypavif")
  with pytest.raises(UserError, match=r"b\.avif is not a readable picture"):
    predict(scheme="plain")
  save(tmp_path / "in" / "b.png", np.zeros((32, 48), np.uint16))
  (tmp_path / "in" / "b.avif").unlink()
  with pytest.raises(UserError, match=r"b\.png has more than 8 bits"):
    predict(scheme="plain")
  assert not (tmp_path / "run").exists()
