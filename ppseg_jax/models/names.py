"""What other libraries call the parameters of SETR.

A rule is (pattern of their name, our path, how the array is turned): `T` for
torch's kernels. A path ending in `#i` is part i of three that are stacked: the
queries, keys and values, which we keep in one kernel.
"""

import re
from collections.abc import Iterable

import numpy as np

Rule = tuple[str, str, str]


def _block(theirs: str, names: dict[str, str], turn: str) -> list[Rule]:
  """Rules of one block for layers given as {their name: our name}."""
  rules = []
  for name, ours in names.items():
    path = rf"params/encoder/block\1/{ours}"
    is_norm = ours.startswith("norm")
    kernel = ("scale", "") if is_norm else ("kernel", turn)
    layer, hash_, part = path.partition("#")
    rules += [
        (rf"{theirs}\.{name}\.weight", f"{layer}/{kernel[0]}{hash_}{part}",
         kernel[1]),
        (rf"{theirs}\.{name}\.bias", f"{layer}/bias{hash_}{part}", ""),
    ]
  return rules


def _norm(theirs: str, ours: str) -> list[Rule]:
  return [(rf"{theirs}\.weight", f"params/{ours}/scale", ""),
          (rf"{theirs}\.bias", f"params/{ours}/bias", "")]


def _layer_scale(theirs: str, attention: str, mlp: str) -> list[Rule]:
  """Rules of what scales a branch: a part of the layer that ends it, for now.

  `convert.fold_layer_scale` folds it in.
  """
  return [
      (rf"{theirs}\.{name}", rf"params/encoder/block\1/{layer}/layer_scale", "")
      for name, layer in ((attention, "proj"), (mlp, "down"))
  ]


def _embeddings(
    class_token: str, distillation: str, positions: str, patches: str
) -> list[Rule]:
  return [
      (class_token, "params/encoder/class_token", ""),
      (distillation, "params/encoder/distillation_token", ""),
      (positions, "params/encoder/pos_embed", ""),
      (rf"{patches}\.weight", "params/encoder/embed/linear/kernel", "T"),
      (rf"{patches}\.bias", "params/encoder/embed/linear/bias", ""),
  ]


TIMM = [
    *_embeddings(
        "cls_token", "dist_token", "pos_embed", r"patch_embed\.proj"
    ),
    *_block(r"blocks\.(\d+)", {
        "norm1": "norm1", r"attn\.qkv": "qkv", r"attn\.proj": "proj",
        "norm2": "norm2", r"mlp\.fc1": "up", r"mlp\.fc2": "down",
    }, "T"),
    *_norm("norm", "encoder/norm"),
    *_layer_scale(r"blocks\.(\d+)", r"ls1\.gamma", r"ls2\.gamma"),
    # Of our own export.
    (r"(params|batch_stats)\.(head|encoder)\.(.+)", r"\1/\2/\3", "own"),
]

# `backbone.` is what a model built around one of theirs calls it.
_PREFIX = r"(?:vit\.|deit\.|dinov2\.|backbone\.)?"
HUGGING_FACE = [
    *_embeddings(
        rf"{_PREFIX}embeddings\.cls_token",
        rf"{_PREFIX}embeddings\.distillation_token",
        rf"{_PREFIX}embeddings\.position_embeddings",
        rf"{_PREFIX}embeddings\.patch_embeddings\.projection",
    ),
    *_block(rf"{_PREFIX}encoder\.layer\.(\d+)", {
        "layernorm_before": "norm1", r"attention\.attention\.query": "qkv#0",
        r"attention\.attention\.key": "qkv#1",
        r"attention\.attention\.value": "qkv#2",
        r"attention\.output\.dense": "proj", "layernorm_after": "norm2",
        r"intermediate\.dense": "up", r"output\.dense": "down",
        # DINOv2's.
        "norm1": "norm1", "norm2": "norm2", r"mlp\.fc1": "up",
        r"mlp\.fc2": "down",
    }, "T"),
    *_layer_scale(
        rf"{_PREFIX}encoder\.layer\.(\d+)", r"layer_scale1\.lambda1",
        r"layer_scale2\.lambda1",
    ),
    *_norm(rf"{_PREFIX}layernorm", "encoder/norm"),
]

_NPZ = r"Transformer/encoderblock_(\d+)"
VISION_TRANSFORMER = [
    ("cls", "params/encoder/class_token", ""),
    ("Transformer/posembed_input/pos_embedding", "params/encoder/pos_embed",
     ""),
    ("embedding/(kernel|bias)", r"params/encoder/embed/linear/\1", ""),
    ("Transformer/encoder_norm/(scale|bias)", r"params/encoder/norm/\1", ""),
    *((rf"{_NPZ}/{theirs}/(scale|kernel|bias)",
       rf"params/encoder/block\1/{ours}", "")
      for theirs, ours in {
          "LayerNorm_0": r"norm1/\2", "LayerNorm_2": r"norm2/\2",
          "MlpBlock_3/Dense_0": r"up/\2", "MlpBlock_3/Dense_1": r"down/\2",
          "MultiHeadDotProductAttention_1/query": r"qkv/\2#0",
          "MultiHeadDotProductAttention_1/key": r"qkv/\2#1",
          "MultiHeadDotProductAttention_1/value": r"qkv/\2#2",
          "MultiHeadDotProductAttention_1/out": r"proj/\2",
      }.items()),
]

_MMSEG_ENCODER = [
    *_embeddings(
        r"backbone\.cls_token", r"backbone\.dist_token",
        r"backbone\.pos_embed", r"backbone\.patch_embed\.projection",
    ),
    *_block(r"backbone\.layers\.(\d+)", {
        "ln1": "norm1", r"attn\.attn\.out_proj": "proj", "ln2": "norm2",
        r"ffn\.layers\.0\.0": "up", r"ffn\.layers\.1": "down",
    }, "T"),
    *((rf"backbone\.layers\.(\d+)\.attn\.attn\.in_proj_{theirs}",
       rf"params/encoder/block\1/qkv/{ours}", turn)
      for theirs, ours, turn in (
          ("weight", "kernel", "T"), ("bias", "bias", "")
      )),
]


def _conv(theirs: str, ours: str, norm: str = "") -> list[Rule]:
  """Rules of a conv; with `norm`, of mmcv's conv and norm in one module."""
  if not norm:
    return [(rf"{theirs}\.weight", f"params/head/{ours}/kernel", "T"),
            (rf"{theirs}\.bias", f"params/head/{ours}/bias", "")]
  return [
      *_conv(rf"{theirs}\.conv", ours),
      *_norm(rf"{theirs}\.(?:bn|gn)", f"head/{norm}"),
      (rf"{theirs}\.bn\.running_(mean|var)", rf"batch_stats/head/{norm}/\1",
       ""),
  ]


# Of MLA, the neck's inputs are counted from the shallowest, its outputs and
# everything after it from the deepest.
MMSEG = {
    "naive": [
        *_MMSEG_ENCODER,
        *_norm(r"decode_head\.norm", "encoder/norm"),
        *_conv(r"decode_head\.up_convs\.0\.0", "conv1", "norm"),
        *_conv(r"decode_head\.conv_seg", "conv2"),
        *(rule for i in range(3) for rule in (
            *_norm(rf"auxiliary_head\.{i}\.norm", f"head/aux{i}_input"),
            *_conv(rf"auxiliary_head\.{i}\.up_convs\.0\.0", f"aux{i}_conv1",
                   f"aux{i}_norm"),
            *_conv(rf"auxiliary_head\.{i}\.conv_seg", f"aux{i}_conv2"),
        )),
    ],
    "pup": [
        *_MMSEG_ENCODER,
        *_norm(r"decode_head\.norm", "encoder/norm"),
        *(rule for i in range(4) for rule in (
            *_conv(rf"decode_head\.up_convs\.{i}\.0", f"conv{i}",
                   f"conv{i}_norm"),
            *_norm(rf"auxiliary_head\.{i}\.norm", f"head/aux{i}_input"),
            *_conv(rf"auxiliary_head\.{i}\.up_convs\.0\.0", f"aux{i}_conv0",
                   f"aux{i}_conv0_norm"),
            *_conv(rf"auxiliary_head\.{i}\.conv_seg", f"aux{i}_classify"),
        )),
        *_conv(r"decode_head\.conv_seg", "classify"),
    ],
    "mla": [
        *_MMSEG_ENCODER,
        *(rule for i in range(4) for rule in (
            *_norm(rf"neck\.norm\.{i}",
                   f"head/level{i}_input" if i < 3 else "encoder/norm"),
            *_conv(rf"neck\.mla\.channel_proj\.{i}", f"level{i}_conv0",
                   f"level{i}_conv0_norm"),
            *_conv(rf"neck\.mla\.feat_extract\.{3 - i}", f"level{i}_conv1",
                   f"level{i}_conv1_norm"),
            *_conv(rf"decode_head\.up_convs\.{3 - i}\.0", f"level{i}_conv2",
                   f"level{i}_conv2_norm"),
            *_conv(rf"decode_head\.up_convs\.{3 - i}\.1", f"level{i}_conv3",
                   f"level{i}_conv3_norm"),
            *_conv(rf"auxiliary_head\.{3 - i}\.conv_seg", f"aux{i}_classify"),
        )),
        *_conv(r"decode_head\.conv_seg", "classify"),
    ],
}


def translate(
    tensors: dict[str, np.ndarray], rules: Iterable[Rule]
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Their arrays by our paths, in shapes still to be fitted; names left over.

  torch's kernels [out, in] and [out, in, h, w] become [in, out] and [h, w, in,
  out].
  """
  found, left_over, names = {}, [], {}
  for name, array in tensors.items():
    for pattern, template, turn in rules:
      if match := re.fullmatch(pattern, name):
        path = match.expand(template)
        if turn == "own":
          path = path.replace(".", "/")
        elif turn == "T":
          array = array.transpose((1, 0) if array.ndim == 2 else (2, 3, 1, 0))
        found[path], names[path] = array, name
        break
    else:
      left_over.append(name)
  for path in [path for path in found if path.endswith("#0")]:
    whole = path.removesuffix("#0")
    if all(f"{whole}#{i}" in found for i in range(3)):
      axis = 1 if whole.endswith("kernel") else 0
      found[whole] = np.stack([found[f"{whole}#{i}"] for i in range(3)], axis)
      for i in range(3):
        del found[f"{whole}#{i}"]
  for path in [path for path in found if "#" in path]:
    del found[path]
    left_over.append(names[path])
  return found, left_over
