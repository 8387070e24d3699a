"""Checks of a config, before anything is read, compiled or written."""

import ml_collections

from ppseg_jax.data import SOURCES, parse_parts
from ppseg_jax.encryption import (
    KEY_PLANS,
    BlockScramble,
    canonical_steps,
    get_scheme,
    ops_of,
)
from ppseg_jax.errors import UserError
from ppseg_jax.models.decoders import DECODERS
from ppseg_jax.models.decoders.parts import NORMS
from ppseg_jax.models.embed import EMBEDS
from ppseg_jax.models.pretrained import PIXELS
from ppseg_jax.models.vit import SIZES


def resolve(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A checked copy of the config in which nothing is left to be derived.

  `model.patch` 0 is the block, `data.crop_height` and `crop_width` 0 the whole
  image, `eval.stride` 0 the shorter side of the crop. `model.form` is the
  scheme whose canonical form the patch embedding reads, `plain` for the patch
  as it is: if it is empty the training scheme's, or `blockwise` for a model
  trained on plain images, which then serves the ciphertexts of `blockwise`.

  Raises UserError for the first field whose value cannot work.
  """
  config = config.copy_and_resolve_references()
  check(config)
  config.model.patch = config.model.patch or config.block
  data = config.data
  data.crop_height = data.crop_height or data.height
  data.crop_width = data.crop_width or data.width
  config.eval.stride = config.eval.stride or min(
      data.crop_height, data.crop_width
  )
  config.model.form = config.model.form or (
      "blockwise" if config.scheme == "plain" else config.scheme
  )
  _check_sizes(config)
  _check_embedding(config)
  _check_adapting(config)
  _check_windows(config)
  return config


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UserError for the first field whose own value cannot work."""
  def at_least(lowest, *names):
    for name in names:
      section, _, field = name.rpartition(".")
      value = (config[section] if section else config)[field]
      if value < lowest:
        raise UserError(f"{name}={value} must be at least {lowest}.")

  def one_of(name, value, choices):
    if value not in choices:
      raise UserError(f"{name}='{value}' is none of {', '.join(choices)}.")

  at_least(1, "steps", "batch_size", "accumulate", "checkpoint_every",
           "eval.every", "eval.windows", "log_every", "block", "clients",
           "data.height", "data.width")
  at_least(1, "refine.steps", "refine.width", "refine.layers", "refine.factor",
           "refine.filter_images")
  if not config.refine.radii or not config.refine.eps:
    raise UserError("refine.radii and refine.eps must hold a value at least.")
  at_least(0, "model.stem", "model.patch", "data.crop_height",
           "data.crop_width", "eval.stride", "eval.images", "panels", "seed",
           "model.aux_weight", "loss.ohem_kept")
  one_of("data.name", config.data.name, SOURCES)
  one_of("key_plan", config.key_plan, KEY_PLANS)
  one_of("eval.key_plan", config.eval.key_plan, ("", *KEY_PLANS))
  one_of("eval.split", config.eval.split, ("val", "left_out"))
  if not parse_parts(config.data.leave_out) and config.eval.split != "val":
    raise UserError(
        "eval.split=left_out needs data.leave_out, the part of train that is"
        " left out."
    )
  one_of("model.size", config.model.size, SIZES)
  if config.model.embed not in EMBEDS:
    raise UserError(
        f"model.embed='{config.model.embed}' is none of {', '.join(EMBEDS)};"
        " what it reads is said by model.form: plain, or a scheme."
    )
  one_of("model.decoder", config.model.decoder, DECODERS)
  one_of("model.norm", config.model.norm, NORMS)
  one_of("model.pos_embed", config.model.pos_embed, ("learned", "none"))
  one_of("model.pretrained_pixels", config.model.pretrained_pixels,
         ("", *PIXELS))
  one_of("model.dtype", config.model.dtype, ("float32", "bfloat16"))
  for name in (config.scheme, config.eval.scheme, config.predict.scheme):
    if name:
      get_scheme(name)
  if config.data.name == "streets":
    at_least(1, "data.train_images", "data.val_images")
    at_least(32, "data.height", "data.width")  # what the renderer can draw
  if not 0 < config.data.scale_min <= config.data.scale_max:
    raise UserError(
        f"data.scale_min={config.data.scale_min} and data.scale_max="
        f"{config.data.scale_max} must be positive, the smaller one first."
    )
  for section, name in (("model", "drop_path"), ("model", "dropout"),
                        ("loss", "smoothing"), ("loss", "ohem"),
                        ("optim", "ema")):
    if not 0 <= config[section][name] < 1:
      raise UserError(
          f"{section}.{name}={config[section][name]} must be at least 0 and"
          " less than 1."
      )
  if not 0 <= config.optim.min_lr <= config.optim.lr or not config.optim.lr:
    raise UserError(
        f"optim.lr={config.optim.lr} must be positive, and optim.min_lr="
        f"{config.optim.min_lr} between 0 and that."
    )
  if not 0 < config.optim.layer_decay <= 1:
    raise UserError(
        f"optim.layer_decay={config.optim.layer_decay} must be greater than 0"
        " and at most 1."
    )
  weights = config.loss.class_weights
  if any(not isinstance(w, int | float) or w < 0 for w in weights) or (
      weights and not any(weights)
  ):
    raise UserError(
        f"loss.class_weights={weights} must be numbers of at least 0, not all"
        " of them 0."
    )
  if config.model.pos_embed == "none" and config.model.stem:
    raise UserError(
        f"model.stem={config.model.stem} looks at neighbouring patches, of"
        " which model.pos_embed=none knows nothing; use model.stem=0."
    )
  if config.loss.ohem and config.loss.ohem_kept >= (
      (config.data.crop_height or config.data.height)
      * (config.data.crop_width or config.data.width)
  ):
    raise UserError(
        f"loss.ohem_kept={config.loss.ohem_kept} is every pixel of a crop, so"
        " that loss.ohem has no effect; make it smaller."
    )


def _check_sizes(config: ml_collections.ConfigDict) -> None:
  data, patch, block = config.data, config.model.patch, config.block
  if patch % block and block % patch:
    raise UserError(
        f"model.patch={patch} and block={block}: one must be a multiple of the"
        " other."
    )
  for unit_name, unit in (("model.patch", patch), ("block", block),
                          ("refine.factor", config.refine.factor)):
    for name in ("height", "width", "crop_height", "crop_width"):
      if data[name] % unit:
        raise UserError(
            f"data.{name}={data[name]} is not a multiple of {unit_name}="
            f"{unit}; choose {data[name] // unit * unit or unit} or"
            f" {(data[name] // unit + 1) * unit}."
        )
    if config.eval.stride % unit:
      raise UserError(
          f"eval.stride={config.eval.stride} is not a multiple of {unit_name}="
          f"{unit}: windows must lie on the block grid."
      )
  if config.eval.stride > min(data.crop_height, data.crop_width):
    raise UserError(
        f"eval.stride={config.eval.stride} leaves gaps between windows of"
        f" {data.crop_height}x{data.crop_width}; make it smaller."
    )
  if data.crop_height > data.height or data.crop_width > data.width:
    raise UserError(
        f"the crop {data.crop_height}x{data.crop_width} is larger than the"
        f" image, {data.height}x{data.width}; make data.crop_height and"
        " data.crop_width smaller."
    )


def _check_windows(config: ml_collections.ConfigDict) -> None:
  """Images are encrypted whole, training crops on their own."""
  data = config.data
  if (data.crop_height, data.crop_width) == (data.height, data.width):
    return
  for name, plan in (
      (config.scheme, config.key_plan),
      (config.eval.scheme or config.scheme,
       config.eval.key_plan or config.key_plan),
  ):
    scheme = get_scheme(name)
    moves = bool(ops_of(scheme, BlockScramble))
    placed = any(
        getattr(op, "scope", "") == "block" for op in ops_of(scheme)
    )
    if plan in ("shared", "client") and (moves or placed):
      raise UserError(
          f"key_plan={plan}: scheme '{name}' treats every place of an image"
          " differently, so that crops and whole images under one key are not"
          " encrypted alike; make data.crop_height and data.crop_width the"
          " image's, or use another key plan."
      )
    if moves and not config.eval.whole:
      raise UserError(
          f"scheme '{name}' moves blocks over the whole image, so that a window"
          " of the ciphertext is not the ciphertext of a window; use"
          " eval.whole=True, or crops of the image's size."
      )


def _check_adapting(config: ml_collections.ConfigDict) -> None:
  for name in ("start.adapt", "eval.adapt"):
    section, _, field = name.partition(".")
    if not config[section][field]:
      continue
    if config.model.form != "plain":
      raise UserError(
          f"{name} transforms an embedding of the pixels by the shared key, but"
          f" model.form={config.model.form}; use model.form=plain."
      )
    if config.model.patch != config.block:
      raise UserError(
          f"{name} transforms the embedding of a block by the shared key, but"
          f" model.patch={config.model.patch} and block={config.block}; make"
          " them the same."
      )
  scheme = get_scheme(config.eval.scheme or config.scheme)
  if config.eval.adapt and ops_of(scheme, BlockScramble):
    raise UserError(
        f"eval.adapt: scheme '{scheme.name}' moves blocks, whose logits come"
        " back in another order, which only the key's owner can put right"
        " (ppseg_jax.encryption.layout); use a scheme that leaves blocks in"
        " place."
    )
  start = config.start
  if start.adapt and config.key_plan != "shared":
    raise UserError(
        "start.adapt transforms the embedding by the key that all images"
        f" share, but key_plan={config.key_plan}; use key_plan=shared."
    )
  if start.adapt and not (start.workdir or config.model.pretrained):
    raise UserError(
        "start.adapt has no effect without start.workdir or model.pretrained,"
        " the weights to start from."
    )
  if start.fresh and not start.workdir:
    raise UserError(
        "start.fresh has no effect without start.workdir, the run to start"
        " from."
    )


def _check_embedding(config: ml_collections.ConfigDict) -> None:
  form = config.model.form
  if form == "plain":
    return
  try:
    canonical_steps(form)
  except UserError as error:
    raise UserError(
        f"model.form={form}: {error} Or use model.form=plain."
    ) from None
  if config.model.patch % config.block:
    raise UserError(
        f"model.form={form} needs whole blocks in a patch, but model.patch="
        f"{config.model.patch} is not a multiple of block={config.block}; use"
        " such a patch or model.form=plain."
    )
