"""Pretrained weights for SETR, and its weights for others.

Loading says by name what it did with every parameter and every tensor, and
stops where a parameter is missing that the config does not expect to be: a
network that starts from scratch without anybody's knowing is the usual fault.
"""

import dataclasses
import math
import re
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np

from ppseg_jax import trees
from ppseg_jax.errors import UserError
from ppseg_jax.models import convert, names, weights
from ppseg_jax.models.convert import PIXELS
from ppseg_jax.models.setr import SETR

_EMBED = "params/encoder/embed/"
_POSITIONS = "params/encoder/pos_embed"


@dataclasses.dataclass
class Report:
  """What became of the parameters (our names) and the tensors (theirs)."""

  path: str
  kind: str
  pixels: str
  matched: list[str]
  resized: list[str]
  missing: list[str]  # all of them expected
  left_over: list[str]

  def __str__(self) -> str:
    def some(title: str, found: list[str]) -> str:
      return f"  {title} {len(found)}: {', '.join(found)}"

    return "\n".join([
        f"weights of {self.path} ({self.kind}, pixels {self.pixels}):"
        f" {len(self.matched)} parameters matched",
        *(some(title, found) for title, found in (
            ("resized", self.resized),
            ("from scratch, as expected,", self.missing),
            ("left over", self.left_over),
        ) if found),
    ])


def load(
    path: Path | str,
    model: SETR,
    variables: dict,
    expected: Iterable[str] = (),
    pixels: str = "",
) -> tuple[dict[str, np.ndarray], Report]:
  """The weights of a file, for a model.

  Args:
    path: `.npz` of vision_transformer, safetensors of timm, Hugging Face or
      our export, a torch file with the state dict of timm, Hugging Face,
      DINOv2 or mmsegmentation's SETR, an ONNX file of Hugging Face's names, or
      the name of a package that holds weights, a key of `weights.PACKAGES`.
    model: which decides how names and shapes are read.
    variables: `params` and `batch_stats` of the model; shapes are enough.
    expected: parameters that may be missing, by the beginnings of their names,
      as in `head` or `embed`.
    pixels: a key of PIXELS, what the file's first layer expects; '' for the
      usual of its kind: `imagenet` for mmsegmentation, distilled DeiT, and
      models with layer scale, which DINOv2 and DeiT III are.

  Returns:
    float32 arrays by path (`params/encoder/...`), in the shapes of
    `variables`, and a report. The patch embedding is passed over by a model
    that reads another form than the file's.

  Raises:
    UserError: a file that cannot be read or is of none of these, a parameter
      missing that is not expected, or an expected one that the model lacks.
  """
  path = weights.find(path)
  tensors, metadata = weights.read(path)
  convert.refuse_unknown(path, tensors)
  kind, rules = _kind(path, tensors, _decoder(model))
  found, left_over = names.translate(tensors, rules)
  distilled = "params/encoder/distillation_token" in found
  scaled = convert.fold_layer_scale(found)
  usual = "half"
  if distilled or scaled or kind == "mmsegmentation":
    usual = "imagenet"
  pixels = pixels or metadata.get("pixels") or usual
  if pixels not in PIXELS:
    raise UserError(f"pixels '{pixels}' are none of {', '.join(PIXELS)}.")
  leaves = trees.named_leaves(variables)
  shapes = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
  resized = []
  if _POSITIONS in found:
    wanted = shapes.get(_POSITIONS, model.encoder.grid)[:2]
    resized = _split_positions(path, found, wanted, metadata.get("grid", ""))
  if metadata.get("form", "plain") != _form(model):
    left_over += [_short(p) for p in found if p.startswith(_EMBED)]
    found = {p: x for p, x in found.items() if not p.startswith(_EMBED)}
  elif model.encoder.embed.reads_pixels:
    resized += convert.resize_patch(found, model.encoder.embed.patch)
    convert.fold_pixels(found, pixels)
  if kind == "mmsegmentation":
    # mmcv leaves out the bias of a conv that a norm follows.
    for name in shapes.keys() - found.keys():
      conv = name.startswith("params/head/") and name.endswith("conv1/bias")
      if conv and name.replace("bias", "kernel") in found:
        found[name] = np.zeros(shapes[name], np.float32)

  values, missing, misshapen = {}, [], {}
  for name, shape in shapes.items():
    fitted = _fit(found[name], shape) if name in found else None
    if fitted is not None:
      values[name] = fitted
      continue
    missing.append(_short(name))
    if name in found:
      misshapen[_short(name)] = (
          f" (shape {found[name].shape} there, {shape} here)"
      )
  left_over += [_short(name) for name in found if name not in values]
  _check_missing(path, missing, misshapen, shapes, tuple(expected))
  report = Report(
      str(path), kind, pixels, sorted(_short(name) for name in values),
      resized, sorted(missing), sorted(left_over),
  )
  return values, report


def put(tree: dict, values: dict[str, np.ndarray]) -> dict:
  """The tree with `values` in it, each where the old one lay or was to lie.

  Args:
    tree: of arrays, or of their shapes and shardings.
    values: by path, whole on every process.
  """
  def place(path, leaf):
    value = values.get(trees.path_name(path))
    if value is None:
      return leaf
    return jax.make_array_from_callback(
        leaf.shape, leaf.sharding, lambda index: value[index]
    )

  return jax.tree_util.tree_map_with_path(place, tree)


def export(path: Path, model: SETR, variables: dict) -> None:
  """Writes the variables as safetensors, the encoder in timm's names.

  The decoder, its statistics, and a patch embedding that is not a conv of the
  pixels keep our names. `load` gives back the same bits. Leading tokens hold
  their position embeddings already, so these are written as zeros.
  """
  leaves = trees.named_leaves(variables)
  flat = {name: np.asarray(leaf) for name, leaf in leaves.items()}
  tensors, leading = {}, []
  embed = model.encoder.embed
  width = flat["params/encoder/norm/scale"].shape[0]
  for name, value in flat.items():
    match name.removeprefix("params/encoder/").split("/"):
      case ["class_token"]:
        tensors["cls_token"] = value[None]
        leading.append(np.zeros((1, 1, width), np.float32))
      case ["distillation_token"]:
        tensors["dist_token"] = value[None]
        leading.append(np.zeros((1, 1, width), np.float32))
      case ["embed", "linear", "kernel"] if embed.reads_pixels:
        kernel = value.reshape(embed.patch, embed.patch, -1, width)
        tensors["patch_embed.proj.weight"] = kernel.transpose(3, 2, 0, 1)
      case ["embed", "linear", "bias"] if embed.reads_pixels:
        tensors["patch_embed.proj.bias"] = value
      case ["norm", "scale" | "bias" as kind]:
        tensors[f"norm.{'weight' if kind == 'scale' else 'bias'}"] = value
      case [block, layer, kind] if block.startswith("block"):
        tensors.update([_timm_block(block, layer, kind, value)])
      case ["pos_embed"]:
        pass
      case _:
        tensors[name.replace("/", ".")] = value
  grid = model.encoder.grid
  if _POSITIONS in flat:
    grid = flat[_POSITIONS].shape[:2]  # smaller where patches share them
    positions = flat[_POSITIONS].reshape(1, -1, width)
    tensors["pos_embed"] = np.concatenate([*leading, positions], axis=1)
  weights.write_safetensors(path, tensors, {
      "format": "pt",  # what transformers and timm ask for
      "pixels": "half",
      "form": _form(model),
      "grid": ",".join(map(str, grid)),
      "size": model.encoder.size,
      "decoder": _decoder(model),
  })


def _timm_block(
    block: str, layer: str, kind: str, value: np.ndarray
) -> tuple[str, np.ndarray]:
  theirs = {"qkv": "attn.qkv", "proj": "attn.proj", "up": "mlp.fc1",
            "down": "mlp.fc2"}.get(layer, layer)
  name = f"blocks.{block.removeprefix('block')}.{theirs}"
  if kind == "kernel":
    rows = math.prod(value.shape[:2]) if layer == "proj" else value.shape[0]
    return f"{name}.weight", value.reshape(rows, -1).T
  kind = "weight" if kind == "scale" else "bias"
  return f"{name}.{kind}", value.reshape(-1)


def _form(model: SETR) -> str:
  """What the patch embedding reads; another block is another form."""
  embed = model.encoder.embed
  return "plain" if embed.reads_pixels else f"{embed.form} {embed.block}"


def _decoder(model: SETR) -> str:
  return type(model.head).__name__.lower()


def _short(name: str) -> str:
  return name.removeprefix("params/")


def _kind(
    path: Path, tensors: dict[str, np.ndarray], decoder: str
) -> tuple[str, list[names.Rule]]:
  """Whose names these are."""
  if any(name.startswith("Transformer/") for name in tensors):
    return "vision_transformer", names.VISION_TRANSFORMER
  if any("embeddings.patch_embeddings." in name for name in tensors):
    return "Hugging Face", names.HUGGING_FACE
  if any(name.startswith("backbone.") for name in tensors):
    if decoder not in names.MMSEG:
      raise UserError(
          f"'{path}' is of mmsegmentation, whose names for the decoder"
          f" '{decoder}' are not known; add them to models/names.py."
      )
    return "mmsegmentation", names.MMSEG[decoder]
  if any(name.startswith("blocks.0.") for name in tensors):
    return "timm", names.TIMM
  raise UserError(
      f"'{path}' is of no ViT that is known here; it begins with"
      f" {', '.join(list(tensors)[:3]) or 'nothing'}."
  )


def _split_positions(
    path: Path,
    found: dict[str, np.ndarray],
    wanted: tuple[int, int],
    given: str,
) -> list[str]:
  """Makes a grid of the position embeddings, in place; says what was resized.

  Those of the leading tokens are added to the tokens.
  """
  positions = found[_POSITIONS].astype(np.float32)
  positions = positions.reshape(-1, positions.shape[-1])
  leading = [
      name for name in ("class_token", "distillation_token")
      if f"params/encoder/{name}" in found
  ]
  grid, skip = _grid_of(path, len(positions), len(leading), wanted, given)
  for name, row in zip(leading, positions[:skip], strict=False):
    token = found[f"params/encoder/{name}"].astype(np.float32)
    found[f"params/encoder/{name}"] = token.reshape(1, -1) + row
  positions = positions[skip:].reshape(*grid, -1)
  if grid == wanted:
    found[_POSITIONS] = positions
    return []
  shape = (*wanted, positions.shape[-1])
  found[_POSITIONS] = np.asarray(
      jax.image.resize(positions, shape, "bilinear")
  )
  return ["encoder/pos_embed from {}x{} to {}x{}".format(*grid, *wanted)]


def _grid_of(
    path: Path,
    rows: int,
    leading: int,
    wanted: tuple[int, int],
    given: str,
) -> tuple[tuple[int, int], int]:
  """The grid of position embeddings, and how many leading rows are no part.

  The file's own word comes first, as in `18,32`; then the model's grid, before
  the square of as many patches: 18x32 are 24x24 in number.
  """
  said = re.fullmatch(r"(\d+),(\d+)", given)
  for skip in (leading, 0):  # some models embed the patches' places alone
    count = rows - skip
    side = math.isqrt(max(count, 0))
    for grid in (said and tuple(map(int, said.groups())), wanted, (side, side)):
      if grid and math.prod(grid) == count:
        return grid, skip
  raise UserError(
      f"'{path}' has {rows} position embeddings, which make no square grid nor"
      f" that of the model, {wanted[0]}x{wanted[1]}."
  )


def _fit(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
  """float32 in that shape, if axes need only be split or merged; else None."""
  def ends(shape):
    return set(np.cumprod([1, *shape]).tolist())

  one, two = ends(array.shape), ends(shape)
  if max(one) != max(two) or not (one <= two or two <= one):
    return None
  return np.ascontiguousarray(array.reshape(shape), np.float32)


def _check_missing(
    path: Path,
    missing: list[str],
    misshapen: dict[str, str],
    shapes: dict,
    expected: tuple[str, ...],
) -> None:
  def belongs(name: str, prefix: str) -> bool:
    name = name.removeprefix("params/").removeprefix("batch_stats/")
    return f"{name}/".startswith((f"{prefix}/", f"encoder/{prefix}/"))

  for prefix in expected:
    if not any(belongs(name, prefix) for name in shapes):
      raise UserError(
          f"model.pretrained_missing names '{prefix}', which is no parameter of"
          " this model; head, embed or encoder/pos_embed, for example."
      )
  wrong = [
      name + misshapen.get(name, "") for name in missing
      if not any(belongs(name, prefix) for prefix in expected)
  ]
  if wrong:
    more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
    raise UserError(
        f"'{path}' lacks {len(wrong)} parameter(s) of the model:"
        f" {', '.join(wrong[:6])}{more}. If they are to start from scratch, say"
        " so: --config.model.pretrained_missing=head, for example."
    )
