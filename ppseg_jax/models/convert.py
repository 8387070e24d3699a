"""Weights of other ViTs made ours: what theirs have and our layers have not.

Each function changes translated arrays, by our paths (`params/encoder/...`), in
place. Arrays of kernels have the outputs last.
"""

import math
import re

import numpy as np

from ppseg_jax.errors import UserError

# Mean and standard deviation of the pixels, as parts of 255, that the first
# layer expects. `half` is what ours gets.
PIXELS = {
    "half": ((0.5,) * 3, (0.5,) * 3),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

KERNEL = "params/encoder/embed/linear/kernel"
BIAS = "params/encoder/embed/linear/bias"

# Names of what no layer here does, and what it is.
_UNKNOWN = {
    r"(.*\.)?(reg_token|register_tokens)": "register tokens",
    r"(.*\.)?mlp\.(w12|w3|weights_in|weights_out|fc1_[gx])\..*":
        "SwiGLU in its MLPs",
}


def refuse_unknown(path: object, tensors: dict[str, np.ndarray]) -> None:
  """Raises UserError for tensors, by their names, that we have no layer for.

  Without them the others give something else than they were trained to give.
  """
  for name, array in tensors.items():
    for pattern, what in _UNKNOWN.items():
      if re.fullmatch(pattern, name):
        raise UserError(
            f"'{path}' has {what} ({name}), which this encoder has not; use"
            " weights of a ViT without."
        )
    down = tensors.get(name.replace("fc1", "fc2"))
    packed = name.endswith("mlp.fc1.weight") and array.ndim == 2
    if packed and down is not None and down.shape[1] != array.shape[0]:
      raise UserError(
          f"'{path}' has SwiGLU in its MLPs ({name}), which this encoder has"
          " not; use weights of a ViT without."
      )


def fold_layer_scale(found: dict[str, np.ndarray]) -> bool:
  """Multiplies layer scale (Touvron et al., ICCV 2021) into the layer before.

  Exact, since each branch ends with a linear layer: proj or down. Returns
  whether there was any.
  """
  scales = [path for path in found if path.endswith("/layer_scale")]
  for path in scales:
    layer = path.removesuffix("/layer_scale")
    scale = found.pop(path).astype(np.float32)
    for kind in ("kernel", "bias"):
      if (name := f"{layer}/{kind}") in found:
        found[name] = found[name].astype(np.float32) * scale
  return bool(scales)


def resize_patch(found: dict[str, np.ndarray], patch: int) -> list[str]:
  """Makes a patch kernel one for patches of another size; says what it did.

  By the pseudo-inverse of bicubic resizing (Beyer et al., FlexiViT, CVPR 2023):
  a patch that was enlarged gives the token that it gave before; where patches
  become smaller, the nearest there is.
  """
  kernel = found.get(KERNEL)
  if kernel is None or kernel.ndim != 4:
    return []
  old, across = kernel.shape[:2]
  if old == patch or old != across:
    return []
  back = np.linalg.pinv(cubic(old, patch).T)  # [patch, old]
  found[KERNEL] = np.einsum("ih,jw,hwcd->ijcd", back, back, kernel)
  return [f"encoder/embed/linear/kernel from {old}x{old} to {patch}x{patch}"]


def cubic(old: int, new: int) -> np.ndarray:
  """The matrix [new, old] that resizes a row of pixels, as torch's bicubic.

  Keys's kernel with a = -0.75 (IEEE ASSP 29(6), 1981), the border's pixels
  repeated, and no smoothing where rows become shorter.
  """
  a = -0.75
  near = np.polynomial.Polynomial([1, 0, -(a + 3), a + 2])
  far = np.polynomial.Polynomial([-4 * a, 8 * a, -5 * a, a])
  matrix = np.zeros((new, old))
  for i in range(new):
    centre = (i + 0.5) * old / new - 0.5
    first = math.floor(centre)
    for j in range(first - 1, first + 3):
      x = abs(centre - j)
      weight = near(x) if x <= 1 else far(x)
      matrix[i, min(max(j, 0), old - 1)] += weight
  return matrix


def fold_pixels(found: dict[str, np.ndarray], pixels: str) -> None:
  """Makes a first layer for our pixels, v / 127.5 - 1.

  Exact: (v / 255 - mean) / std = ours * 0.5 / std + (0.5 - mean) / std. One of
  another shape is left, to be reported.

  Args:
    found: with the kernel as [P, P, 3, D].
    pixels: a key of PIXELS, what the layer was made for.
  """
  kernel, bias = found.get(KERNEL), found.get(BIAS)
  if bias is None or kernel is None or kernel.shape[2:] != (3, *bias.shape):
    return
  kernel = kernel.astype(np.float64)
  mean, std = (np.array(x) for x in PIXELS[pixels])
  weights = kernel.reshape(-1, 3, *bias.shape)
  shift = np.einsum("pcd,c->d", weights, (0.5 - mean) / std)
  found[KERNEL] = (weights * (0.5 / std)[:, None]).reshape(kernel.shape)
  found[BIAS] = bias + shift
