"""The weights of an ONNX file, without the libraries that run it.

ONNX is a protocol buffer (github.com/onnx/onnx, onnx.proto): only what holds
weights is read. An exporter renames the kernels of linear layers, which it has
transposed and which stand alone then: they get the name of the layer that uses
them back.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ppseg_jax.errors import UserError

_FLOAT = 1  # TensorProto.DataType


def read(path: Path) -> dict[str, np.ndarray]:
  """The float32 tensors of a file, by the names that the model had in torch.

  A kernel [in, out] is turned to torch's [out, in]. The position embeddings of
  a Hugging Face model, which the exporter cuts into that of the class token and
  the others, are put together.

  Raises UserError for a file that is no ONNX model.
  """
  try:
    (graph,) = _fields(memoryview(Path(path).read_bytes()), 7)
    tensors = dict(filter(None, map(_tensor, _fields(graph, 5))))
    nodes = [_node(node) for node in _fields(graph, 1)]
  except (ValueError, IndexError) as error:
    raise UserError(
        f"'{path}' is no ONNX model, or it is damaged ({error})."
    ) from None
  found = {k: v for k, v in tensors.items() if not k.startswith("onnx::")}
  places = []
  for kind, name, inputs in nodes:
    for given in inputs:
      if not given.startswith("onnx::") or given not in tensors:
        continue
      layer = name.strip("/").replace("/", ".")
      if kind == "MatMul":
        weight = layer.removesuffix("MatMul") + "weight"
        found[weight] = tensors[given].T
      elif ".embeddings." in f".{layer}" and tensors[given].ndim == 3:
        places.append((tensors[given], layer))
  if places:
    places.sort(key=lambda pair: pair[0].shape[1])  # class token first
    prefix = re.match(r"(.*\.|)embeddings\.", places[0][1])[0]
    found[f"{prefix}position_embeddings"] = np.concatenate(
        [array for array, _ in places], axis=1
    )
  return found


def _fields(message: memoryview, wanted: int) -> list:
  """The values of one field of a message."""
  return [value for number, value in _walk(message) if number == wanted]


def _walk(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
  """(number, value) of each field; bytes are views, nothing is copied."""
  at = 0
  while at < len(message):
    tag, at = _varint(message, at)
    match tag & 7:
      case 0:
        value, at = _varint(message, at)
      case 1 | 5:
        size = 8 if tag & 7 == 1 else 4
        value, at = message[at : at + size], at + size
      case 2:
        size, at = _varint(message, at)
        value, at = message[at : at + size], at + size
      case other:
        raise ValueError(f"a field of wire type {other}")
    if at > len(message):
      raise ValueError("it is cut off")
    yield tag >> 3, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
  value = 0
  for shift in range(0, 70, 7):  # of 64 bits
    byte = message[at]
    value |= (byte & 127) << shift
    at += 1
    if byte < 128:
      return value, at
  raise ValueError("a number of more than 64 bits")


def _tensor(message: memoryview) -> tuple[str, np.ndarray] | None:
  """(name, float32 array) of a TensorProto with raw data; None of others."""
  name, dims, kind, raw = "", [], 0, None
  for number, value in _walk(message):
    match number:
      case 1 if isinstance(value, int):
        dims.append(value)
      case 1:  # packed
        at = 0
        while at < len(value):
          size, at = _varint(value, at)
          dims.append(size)
      case 2:
        kind = value
      case 8:
        name = bytes(value).decode()
      case 9:
        raw = value
  if kind != _FLOAT or raw is None:
    return None
  return name, np.frombuffer(raw, "<f4").reshape(dims)


def _node(message: memoryview) -> tuple[str, str, list[str]]:
  """(kind, name, names of the inputs) of a NodeProto."""
  kind, name, inputs = "", "", []
  for number, value in _walk(message):
    match number:
      case 1:
        inputs.append(bytes(value).decode())
      case 3:
        name = bytes(value).decode()
      case 4:
        kind = bytes(value).decode()
  return kind, name, inputs
