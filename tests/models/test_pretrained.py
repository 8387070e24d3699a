"""Weight files: read without running them, matched by name, written back."""

import pickle
import sys
import types
import zipfile

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from ppseg_jax.errors import UserError
from ppseg_jax.models import pretrained, weights
from ppseg_jax.models.embed import PatchEmbed
from ppseg_jax.trees import named_leaves
from tests.helpers import make_setr, photo, random_variables


def make(form="plain", grid=(2, 3), patch=8, **fields):
  """A model and random variables of it; nothing is compiled."""
  model = make_setr(form, patch, grid=grid, **fields)
  return model, random_variables(model, grid[0] * patch, grid[1] * patch)


@pytest.fixture
def exported(tmp_path):
  """A file with timm's names, and the variables in it."""
  model, variables = make(class_token=True)
  pretrained.export(tmp_path / "vit.safetensors", model, variables)
  return tmp_path / "vit.safetensors", variables


@pytest.mark.parametrize("fields", [
    {"class_token": True, "aux": True},
    {"decoder": "pup", "form": "blockwise", "norm": "group"},
    {"decoder": "mla", "size": "deit_tiny", "class_token": True},
    {"pos_embed": "none"},
    {"grid": (4, 3), "pos_region": (2, 0)},
])
def test_an_exported_model_is_loaded_with_the_same_bits(fields, tmp_path):
  model, variables = make(**fields)
  path = tmp_path / "model.safetensors"
  pretrained.export(path, model, variables)
  values, report = pretrained.load(path, model, variables)
  assert not (report.missing or report.left_over or report.resized)
  expected = named_leaves(variables)
  assert values.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(values[name], value, err_msg=name)


def test_everything_but_the_embedding_goes_to_a_model_of_canonical_forms(
    exported
):
  path, variables = exported
  model, others = make(form="blockwise", class_token=True)
  with pytest.raises(UserError, match="encoder/embed/linear/kernel"):
    pretrained.load(path, model, others)
  values, report = pretrained.load(path, model, others, ["embed"])
  assert report.missing == report.left_over == [
      "encoder/embed/linear/bias", "encoder/embed/linear/kernel"
  ]
  assert values.keys() == named_leaves(variables).keys() - {
      "params/encoder/embed/linear/bias", "params/encoder/embed/linear/kernel"
  }


def test_an_embedding_of_another_block_is_another_form(tmp_path):
  model, variables = make(form="blockwise", patch=16)
  path = tmp_path / "model.safetensors"
  pretrained.export(path, model, variables)
  smaller = make_setr("blockwise", 16, block=8)
  for other, expected in ((model, []), (smaller, ["embed"])):
    _, report = pretrained.load(path, other, variables, expected)
    assert len(report.missing) == 2 * len(expected)


def test_what_is_missing_or_misspelt_stops_the_run_by_name(exported):
  path, _ = exported
  model, other = make(class_token=True, decoder="pup")
  with pytest.raises(UserError, match=r"lacks 22 param.*head/conv0_norm/mean"):
    pretrained.load(path, model, other)
  with pytest.raises(UserError, match="'haed', which is no parameter"):
    pretrained.load(path, model, other, ["haed"])
  values, report = pretrained.load(path, model, other, ["head"])
  assert {name.removeprefix("batch_stats/").split("/")[0]
          for name in report.missing} == {"head"}
  assert not any("head" in name for name in values)
  # `head` is no licence for what only begins like it.
  wide, other = make(size="tiny", class_token=True)
  with pytest.raises(UserError, match=r"\(shape .*128.* there, .*192.* here"):
    pretrained.load(path, wide, other, ["head"])


@pytest.mark.parametrize("grid", [(4, 6), (3, 3)])
def test_position_embeddings_are_resized_to_any_grid(grid, exported):
  path, variables = exported
  model, other = make(grid=grid)  # and without a class token
  values, report = pretrained.load(path, model, other)
  assert report.resized == [
      "encoder/pos_embed from 2x3 to {}x{}".format(*grid)
  ]
  assert report.left_over == ["encoder/class_token"]
  old = variables["params"]["encoder"]["pos_embed"]
  np.testing.assert_allclose(
      values["params/encoder/pos_embed"],
      jax.image.resize(old, (*grid, 128), "bilinear"), atol=1e-6,
  )


def test_a_square_grid_is_found_without_being_told_and_leads_are_added(
    exported
):
  path, _ = exported
  rows = np.random.default_rng(1).normal(size=(1, 1 + 9, 128))
  tensors = load_file(path) | {"pos_embed": rows.astype(np.float16)}
  save_file(tensors, path)
  model, other = make(grid=(3, 3), class_token=True)
  values, report = pretrained.load(path, model, other)
  assert not report.resized
  rows = rows.astype(np.float16).astype(np.float32)[0]
  np.testing.assert_array_equal(
      values["params/encoder/pos_embed"], rows[1:].reshape(3, 3, 128)
  )
  np.testing.assert_array_equal(
      values["params/encoder/class_token"], tensors["cls_token"][0] + rows[0]
  )


@pytest.mark.parametrize("grid", [(18, 32), (36, 64)])
def test_a_grid_that_is_a_square_in_number_is_read_as_it_lies(
    grid, exported, tmp_path
):
  path, _ = exported
  rows, columns = grid
  encoder = {"pos_embed": np.random.default_rng(1).normal(
      size=(*grid, 128)).astype(np.float32)}
  foreign = load_file(path) | {
      "pos_embed": np.concatenate([
          np.zeros((1, 1, 128), np.float32),
          encoder["pos_embed"].reshape(1, -1, 128),
      ], 1),
  }
  save_file(foreign, path)  # which says nothing of the grid
  model, variables = make(grid=grid, class_token=True)
  values, report = pretrained.load(path, model, variables)
  assert not report.resized
  np.testing.assert_array_equal(
      values["params/encoder/pos_embed"], encoder["pos_embed"]
  )

  side = int((rows * columns) ** 0.5)
  square, others = make(grid=(side, side), class_token=True)
  assert not pretrained.load(path, square, others)[1].resized
  # Our own export says what it holds, whatever the model would take it for.
  variables["params"]["encoder"] |= encoder
  pretrained.export(tmp_path / "own.safetensors", model, variables)
  values, report = pretrained.load(tmp_path / "own.safetensors", square, others)
  assert report.resized == [
      f"encoder/pos_embed from {rows}x{columns} to {side}x{side}"
  ]
  np.testing.assert_allclose(
      values["params/encoder/pos_embed"],
      jax.image.resize(encoder["pos_embed"], (side, side, 128), "bilinear"),
      atol=1e-6,
  )


@pytest.mark.parametrize("said", ["", "two by three", "9,9", "3"])
def test_a_grid_that_the_file_states_wrongly_is_passed_over(said, exported):
  path, variables = exported
  save_file(load_file(path), path, metadata={"grid": said})
  model, others = make(class_token=True)
  values, _ = pretrained.load(path, model, others)
  np.testing.assert_array_equal(
      values["params/encoder/pos_embed"],
      variables["params"]["encoder"]["pos_embed"],
  )


def test_a_first_layer_for_other_pixels_is_folded_exactly(exported):
  path, _ = exported
  model, other = make(class_token=True)
  values, _ = pretrained.load(path, model, other, pixels="imagenet")
  mean, std = pretrained.PIXELS["imagenet"]
  image = photo(16, 24)
  tensors = load_file(path)
  x = (image / 255 - mean) / std
  x = x.reshape(2, 8, 3, 8, 3).transpose(0, 2, 4, 1, 3)  # [h, w, C, P, P]
  expected = np.einsum("hwcpq,dcpq->hwd", x, tensors["patch_embed.proj.weight"])
  expected += tensors["patch_embed.proj.bias"]
  embed = PatchEmbed(patch=8, form="plain", block=8)
  name = "params/encoder/embed/linear/"
  ours = embed.apply({"params": {"linear": {
      kind: values[name + kind] for kind in ("kernel", "bias")
  }}}, image[None], 128)
  np.testing.assert_allclose(ours[0], expected.reshape(6, 128), atol=1e-3)


def test_weights_of_vision_transformer_are_read(tmp_path):
  model, variables = make(class_token=True)
  encoder = variables["params"]["encoder"]
  arrays = {
      "cls": encoder["class_token"][None] - 1,
      "Transformer/posembed_input/pos_embedding": np.concatenate(
          [np.ones((1, 1, 128)), encoder["pos_embed"].reshape(1, 6, 128)], 1
      ),
      "embedding/kernel": encoder["embed"]["linear"]["kernel"].reshape(
          8, 8, 3, 128
      ),
      "embedding/bias": encoder["embed"]["linear"]["bias"],
      "Transformer/encoder_norm/scale": encoder["norm"]["scale"],
      "Transformer/encoder_norm/bias": encoder["norm"]["bias"],
      "head/kernel": np.zeros((128, 1000)),
  }
  for i in range(4):
    block = encoder[f"block{i}"]
    for theirs, ours in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2"),
                         ("MlpBlock_3/Dense_0", "up"),
                         ("MlpBlock_3/Dense_1", "down"),
                         ("MultiHeadDotProductAttention_1/out", "proj")):
      for kind, value in block[ours].items():
        arrays[f"Transformer/encoderblock_{i}/{theirs}/{kind}"] = value
    for j, name in enumerate(("query", "key", "value")):
      prefix = f"Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1"
      arrays[f"{prefix}/{name}/kernel"] = block["qkv"]["kernel"][:, j]
      arrays[f"{prefix}/{name}/bias"] = block["qkv"]["bias"][j]
  np.savez(tmp_path / "vit.npz", **arrays)
  values, report = pretrained.load(
      tmp_path / "vit.npz", model, variables, ["head"]
  )
  assert report.left_over == ["head/kernel"] and not report.resized
  for name, value in named_leaves({"params": {"encoder": encoder}}).items():
    np.testing.assert_allclose(values[name], value, rtol=1e-6, atol=1e-6,
                               err_msg=name)


class Tensor:
  """Pickled as torch pickles a tensor."""

  def __init__(self, array, key, offset=0, strides=None):
    self.array, self.key, self.offset = array, key, offset
    self.strides = strides or [s // array.itemsize for s in array.strides]

  def __reduce__(self):
    storage = ("storage", sys.modules["torch"].FloatStorage, self.key, "cpu",
               self.array.size)
    return sys.modules["torch._utils"]._rebuild_tensor_v2, (
        Persistent(storage), self.offset, self.array.shape, self.strides,
        False, {},
    )


class Persistent(tuple):

  def __new__(cls, values):
    return super().__new__(cls, values)


class Pickler(pickle.Pickler):

  def persistent_id(self, value):
    return tuple(value) if isinstance(value, Persistent) else None


@pytest.fixture
def save_torch(monkeypatch, tmp_path):
  """Writes an object as `torch.save` does; torch need not be installed."""
  torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
  torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})

  def _rebuild_tensor_v2():
    raise AssertionError("only its name is pickled")

  _rebuild_tensor_v2.__module__ = "torch._utils"
  _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
  utils._rebuild_tensor_v2 = _rebuild_tensor_v2

  def save(value, arrays):
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w") as archive, monkeypatch.context() as patch:
      patch.setitem(sys.modules, "torch", torch)
      patch.setitem(sys.modules, "torch._utils", utils)
      with archive.open("weights/data.pkl", "w") as file:
        Pickler(file, protocol=2).dump(value)
      for key, array in arrays.items():
        archive.writestr(f"weights/data/{key}", array.tobytes())
    return path

  return save


def test_a_torch_file_is_read_without_torch(save_torch):
  a = np.arange(6, dtype=np.float32).reshape(2, 3)
  view = Tensor(a[:, :2], "0", offset=1, strides=[3, 1])
  path = save_torch(
      {"meta": {"epoch": 3}, "state_dict": {"a": Tensor(a, "0"), "b": view}},
      {"0": a},
  )
  tensors, _ = weights.read(path)
  assert tensors.keys() == {"a", "b"}
  np.testing.assert_array_equal(tensors["a"], a)
  np.testing.assert_array_equal(tensors["b"], a[:, 1:])


class Evil:

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (self.path, "w")


def test_code_in_a_torch_file_is_refused_and_not_run(save_torch, tmp_path):
  trap = tmp_path / "trap"
  path = save_torch({"state_dict": {}, "x": Evil(str(trap))}, {})
  with pytest.raises(UserError, match=r"io\.open, which is no tensor"):
    weights.read(path)
  assert not trap.exists()


def test_a_tensor_beyond_its_storage_is_refused(save_torch):
  a = np.arange(6, dtype=np.float32)
  for tensor in (Tensor(a, "0", offset=1), Tensor(a, "0", strides=[2]),
                 Tensor(a, "0", offset=-1)):
    with pytest.raises(UserError, match="beyond its storage"):
      weights.read(save_torch({"a": tensor}, {"0": a}))


@pytest.mark.parametrize("content, part", [
    (b"", "neither npz, safetensors, ONNX nor a torch file"),
    (b"PK" + bytes(50), "neither npz, safetensors, ONNX nor a torch file"),
    (b"\x80\x02\x8a\x0a" + bytes(50), "before version 1.6"),
])
def test_a_file_of_another_kind_is_refused_in_a_sentence(
    content, part, tmp_path
):
  (tmp_path / "x.pth").write_bytes(content)
  with pytest.raises(UserError, match=part):
    weights.read(tmp_path / "x.pth")


def test_a_cut_file_and_unknown_names_are_refused(exported, tmp_path):
  path, variables = exported
  model, _ = make()
  with pytest.raises(UserError, match="does not exist"):
    weights.read(tmp_path / "nothing.npz")
  save_file({"conv1.weight": np.zeros(3)}, tmp_path / "x.safetensors")
  with pytest.raises(UserError, match=r"no ViT .* conv1\.weight"):
    pretrained.load(tmp_path / "x.safetensors", model, variables)
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(UserError, match="damaged"):
    weights.read(path)


def test_safetensors_of_bfloat16_are_read(tmp_path):
  values = np.arange(-3, 3).astype(ml_dtypes.bfloat16)
  raw = values.tobytes()
  header = (b'{"x":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,'
            + str(len(raw)).encode() + b"]}}")
  path = tmp_path / "x.safetensors"
  path.write_bytes(len(header).to_bytes(8, "little") + header + raw)
  tensors, _ = weights.read(path)
  np.testing.assert_array_equal(tensors["x"], values.reshape(2, 3))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_shapes_fit_where_axes_are_split_or_merged_and_nowhere_else(
    shape, data
):
  array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
  cut = data.draw(st.integers(0, len(shape)))
  merged = (int(np.prod(shape[:cut])), int(np.prod(shape[cut:])))
  np.testing.assert_array_equal(
      pretrained._fit(array, merged), array.reshape(merged)
  )
  np.testing.assert_array_equal(
      pretrained._fit(array.reshape(merged), tuple(shape)), array
  )
  if merged[0] != merged[1]:
    assert pretrained._fit(array.reshape(merged), merged[::-1]) is None or (
        1 in merged
    )
