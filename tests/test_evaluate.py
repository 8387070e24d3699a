"""Tests of a split: windows, counts, and layouts hidden and put back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ppseg_jax import evaluate, metrics, pictures, sharding, viz
from ppseg_jax.data import sizes
from ppseg_jax.data.labels import CITYSCAPES
from ppseg_jax.errors import UserError
from ppseg_jax.predict import largest
from ppseg_jax.runs import keys, record
from ppseg_jax.runs import model as models
from ppseg_jax.windows import (
    Windows,
    predict_logits,
    window_starts,
    windows_of,
)
from tests.helpers import (
    make_setr,
    photo,
    random_variables,
    tiny_config,
    write_camvid,
)


class Ramp:
  """Stands for SETR: logits of a pixel and its place in a window."""

  num_classes = 3

  @staticmethod
  def apply(variables, images):
    x = images[..., :1].astype(jnp.float32)
    place = jnp.arange(images.shape[1])[:, None, None] / images.shape[1]
    return jnp.concatenate([x * place, 255 - x, x * 0 + 99], -1) * variables


def test_windows_cover_the_image_and_lie_on_the_grid():
  assert window_starts(1024, 768, 512) == [0, 256]
  assert window_starts(2048, 768, 512) == [0, 512, 1024, 1280]
  assert window_starts(768, 768, 512) == [0]
  for size, window, stride in ((96, 32, 16), (112, 48, 48), (64, 64, 8)):
    covered = {p for s in window_starts(size, window, stride)
               for p in range(s, s + window)}
    assert covered == set(range(size))


def test_sliding_windows_average_what_each_window_says():
  model = make_setr("blockwise", grid=(4, 4))
  variables = random_variables(model, 32, 32)
  apply = jax.jit(model.apply)
  image = photo(48, 32)[None]
  logits = jax.jit(
      lambda variables, image: predict_logits(
          model, variables, image, Windows(32, 32, 16)
      )
  )(variables, image)
  upper = apply(variables, image[:, :32])
  lower = apply(variables, image[:, 16:])
  both = (upper[:, 16:] + lower[:, :16]) / 2
  expected = np.concatenate([upper[:, :16], both, lower[:, 16:]], axis=1)
  np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 3, 8, 100])
def test_sliding_windows_agree_with_a_plain_loop(at_once):
  """1024x2048 with windows of 768 and stride 512, at a sixteenth."""
  images = np.stack([photo(64, 128, seed) for seed in range(2)])
  predict = jax.jit(functools.partial(
      predict_logits, Ramp, windows=Windows(48, 48, 32, at_once),
  ))
  total, count = np.zeros((2, 64, 128, 3)), np.zeros((64, 128, 1))
  corners = [(t, left) for t in (0, 16) for left in (0, 32, 64, 80)]
  for top, left in corners:
    at = np.s_[top : top + 48, left : left + 48]
    total[(slice(None), *at)] += Ramp.apply(2.0, images[(slice(None), *at)])
    count[at] += 1
  got = predict(variables=2.0, images=images)
  np.testing.assert_allclose(got, total / count, rtol=1e-4, atol=1e-3)


def test_memory_of_sliding_does_not_grow_with_the_number_of_windows():
  image = jax.ShapeDtypeStruct((1, 256, 512, 3), jnp.uint8)

  predict = jax.jit(functools.partial(
      predict_logits, Ramp, windows=Windows(128, 128, 8)
  ))
  compiled = predict.lower(variables=2.0, images=image).compile()
  logits = 256 * 512 * 3 * 4  # bytes
  # Of 833 windows, beside the result.
  assert compiled.memory_analysis().temp_size_in_bytes < logits


class Stills:
  """Ten images, with labels from their colours and no void pixel."""

  label_space = CITYSCAPES

  def __len__(self):
    return 10

  def __getitem__(self, index):
    image = photo(32, 48, index)
    return image, (image[..., 0] % 19).astype(np.uint8)


@pytest.mark.parametrize("whole", [False, True])
def test_every_pixel_of_a_split_counts_once_in_batches_that_do_not_divide(
    whole, mini
):
  config = tiny_config(
      data__crop_width=32, eval__stride=16, eval__whole=whole, batch_size=8,
      model__aux=False, model__stem=0,
  )
  model = models.make(config, 19)
  variables = random_variables(model, 32, 32)
  mesh = sharding.make_mesh(config.mesh)
  answer = evaluate.make_answer(
      model, keys.of_test(config), keys.SPLITS["val"],
      windows_of(config),
  )
  result = evaluate.evaluate(
      evaluate.make_step(answer, 19, mesh, boundary=True), variables, Stills(),
      mesh, batch_size=8,
  )[""]
  assert result.pixels == 10 * 32 * 48 and result.images == 10
  windows = Windows(32, 48 if whole else 32, 16)
  expected, by_image = np.zeros((19, 19), np.int64), []
  boundary = np.zeros((2, 19), np.int64)
  predict = jax.jit(lambda x: predict_logits(
      model, variables, x, windows
  ).argmax(-1))
  for image, labels in (Stills()[i] for i in range(10)):
    found = np.asarray(predict(image[None]))
    counts = np.zeros((19, 19), np.int64)
    np.add.at(counts, (labels, found[0]), 1)
    by_image.append(metrics.hits_and_unions(counts))
    boundary += metrics.boundary_hits_and_unions(labels[None], found, 19)
    expected += counts
  # blockwise and its canonical form: encryption changes no prediction
  np.testing.assert_array_equal(result.confusion, expected)
  assert result.miou == metrics.summarise(expected, CITYSCAPES.names)["miou"]
  spread = metrics.spread(np.stack(by_image))
  assert result.miou_interval == spread["miou_interval"]
  assert result.image_miou == spread["image_miou"]
  edges = metrics.boundary(boundary, CITYSCAPES.names)
  assert result.class_boundary_iou == edges["class_boundary_iou"]
  assert result.boundary_iou == edges["boundary_iou"] > 0


def test_the_interval_does_not_depend_on_which_row_an_image_is_in():
  by_image = np.random.default_rng(0).integers(1, 99, (10, 1, 2, 19))
  by_image = by_image.cumsum(2)  # no more hits than union

  def interval(rows):
    def step(_, batch):
      index = np.asarray(batch["index"])[list(rows)]
      found = np.where(index[:, None, None, None] < 0, 0, by_image[index])
      counts = {"confusion": np.ones((1, 19, 19), int), "by_image": found,
                "index": index}
      return counts, batch["image"], batch["label"][:, None]

    mesh = sharding.make_mesh(tiny_config().mesh)
    return evaluate.evaluate(
        step, {}, Stills(), mesh, batch_size=8
    )[""].miou_interval

  assert interval(range(8)) == interval([3, 1, 7, 0, 2, 6, 4, 5]) == (
      metrics.spread(by_image[:, 0])["miou_interval"]
  )


class Shaped:
  """Two shapes of images padded to blocks, and labels of sizes of their own."""

  label_space = CITYSCAPES
  shapes = ((24, 40), (48, 20), (24, 40))

  def __init__(self, of_input):
    self._of_input = of_input

  def __len__(self):
    return 3

  def __getitem__(self, index):
    size = self._of_input(self.shapes[index])
    labels = np.full(self.shapes[index], index, np.uint8)
    return pictures.pad(photo(*size, index), 8), labels


def test_figures_at_the_labels_size_are_of_resized_logits_without_padding():
  config = tiny_config(data__resize="shorter", eval__at="original")
  of_logits = sizes.of_logits(config)
  source, mesh = Shaped(of_logits), sharding.make_mesh(config.mesh)

  def answer(variables, batch):
    bright = batch["image"][..., :1].astype(jnp.float32) / 9
    return batch["image"], -jnp.square(bright - jnp.arange(19.0))

  result = evaluate.evaluate(
      evaluate.make_step(answer, 19, mesh, of_logits=of_logits), {}, source,
      mesh, batch_size=mesh.size * 2,
  )[""]
  assert result.pixels == sum(h * w for h, w in source.shapes)
  expected = np.zeros((19, 19), np.int64)
  for i in range(3):
    size = of_logits(source.shapes[i])
    assert min(size) == 32
    _, logits = answer({}, {"image": jnp.asarray(source[i][0])[None]})
    logits = np.asarray(logits[0, : size[0], : size[1]])
    found = largest(logits, source.shapes[i])
    np.add.at(expected[i], found.ravel(), 1)
  # Pillow's weights are rounded otherwise: a few pixels may go the other way.
  off = np.abs(np.asarray(result.confusion) - expected).sum()
  assert off <= 0.02 * result.pixels


def test_a_panel_has_the_size_of_the_input_whatever_the_labels(tmp_path):
  labels = np.zeros((100, 120), np.uint8)
  evaluate.save_panel(
      tmp_path / "x.png", CITYSCAPES, "plain", photo(32, 48), photo(25, 30),
      labels, labels, "prediction",
  )
  parts = viz.split_panel(Image.open(tmp_path / "x.png"), 25, 30)
  assert len(parts) == 4
  np.testing.assert_array_equal(parts[0], photo(32, 48)[:25, :30])


def test_classes_that_are_merged_take_the_largest_logit():
  logits = np.float32([[[[0, 5, 1, 4]]]])
  found = evaluate.merged(((0, 3), (2,)), None, logits)
  np.testing.assert_array_equal(found, [[[[4, 1]]]])


@pytest.mark.parametrize("scheme, fields", [
    ("blockwise_hidden", {"model__pos_embed": "none"}),
    ("blockwise_bands2", {"model__pos_region": (2, 0)}),
])
def test_a_hidden_layout_is_scrambled_asked_for_and_put_back(
    scheme, fields, mini
):
  config = tiny_config(model__stem=0, model__aux=False, **fields)
  model = models.make(config, 19)
  variables = random_variables(model, 32, 48)
  batch = {"image": np.stack([photo(32, 48, i) for i in range(2)]),
           "index": np.arange(2), "epoch": np.zeros(2, np.int32)}

  def ask(scheme):
    clients = keys.of_test(tiny_config(
        model__stem=0, model__aux=False, eval__scheme=scheme, **fields
    ))
    answer = evaluate.make_answer(
        model, clients, keys.SPLITS["val"], windows_of(config)
    )
    return jax.jit(answer)(variables, batch)

  seen, logits = ask(scheme)
  in_place, expected = ask("blockwise")
  assert (np.asarray(seen) != np.asarray(in_place)).mean() > 0.5
  np.testing.assert_allclose(logits, expected, atol=1e-4)
  assert np.ptp(np.asarray(expected)) > 0.1


def test_no_image_of_a_split_has_the_key_of_another_splits_image():
  clients = keys.of_test(tiny_config())
  batch = {"index": np.arange(5), "epoch": np.zeros(5, np.int32)}
  words = [
      jax.random.key_data(clients.keys(batch, split))
      for split in keys.SPLITS.values()
  ]
  assert len(np.unique(np.concatenate(words), axis=0)) == 15


def test_other_data_and_other_sizes_have_other_keys():
  usual = tiny_config()
  others = [
      tiny_config(eval__data_name="camvid"),
      tiny_config(eval__data_name="tfds:camvid"),
      tiny_config(data__name="camvid", data__resize="shorter"),
      tiny_config(data__name="folder", data__val_share=0.5),
  ]
  found = [keys.of_test(config).images for config in (usual, *others)]
  assert len({*found}) == len(found)
  assert keys.of_training(others[0]) == keys.of_training(usual)
  del usual.data.resize, usual.data.val_share  # as those before them had none
  assert keys.of_test(usual).images == found[0]


def test_a_test_on_a_prepared_data_set_has_the_name_of_a_file():
  config = tiny_config(eval__data_name="tfds:cityscapes/semantic_segmentation")
  name = record.name_of(config)
  assert name.endswith("on_tfds_cityscapes_semantic_segmentation")


def test_other_data_is_read_before_anything_is_compiled(tmp_path):
  folder = write_camvid(tmp_path / "camvid", count=1)
  broken = folder / "val" / "images" / "000.png"
  broken.write_bytes(broken.read_bytes()[:200])
  config = tiny_config(eval__data_name="camvid", eval__data_dir=str(folder))
  with pytest.raises(UserError, match="000.png"):
    evaluate.measure(config, tmp_path / "run")
