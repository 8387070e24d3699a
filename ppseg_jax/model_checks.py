"""Checks of what a config says of the model and its teacher, see `config`."""

import ml_collections

from ppseg_jax.encryption import (
    BlockScramble,
    PixelShuffle,
    canonical_steps,
    get_scheme,
    ops_of,
)
from ppseg_jax.errors import UserError
from ppseg_jax.losses import TAUGHT
from ppseg_jax.models import rank
from ppseg_jax.models.vit import SIZES


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UserError for the first value that cannot work."""
  _check_embedding(config)
  _check_adapting(config)
  _check_teacher(config)


def _check_teacher(config: ml_collections.ConfigDict) -> None:
  loss, taught = config.loss, config.loss.objective in TAUGHT
  if bool(loss.teacher) != taught:
    raise UserError(
        f"loss.objective={loss.objective} and loss.teacher='{loss.teacher}':"
        f" a teacher, the workdir of a run on plain images, is for the"
        f" objectives {' and '.join(TAUGHT)}, and these need one."
    )
  if taught and config.setting != "home":
    raise UserError(
        f"loss.objective={loss.objective} shows a teacher the plain images,"
        f" which only their owner can; use setting=home, or the objective"
        " segmentation."
    )
  depth = SIZES[config.model.size].depth
  if max(loss.teacher_layers) > depth:
    raise UserError(
        f"loss.teacher_layers={tuple(loss.teacher_layers)}: size"
        f" {config.model.size} has {depth} blocks; give 0 to {depth}."
    )
  if config.data.more and not taught:
    raise UserError(
        "data.more adds images without labels, of which only a teacher knows"
        f" more; use data.more='' with loss.objective={loss.objective}."
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
  scheme = get_scheme(config.eval.scheme)
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
  match config.model.embed:
    case "rank":
      return _check_rank(config)
    case "adaptnet":
      return _check_adaptnet(config)
  if form == "plain":
    if config.model.spread:
      raise UserError("model.spread has no effect on model.form=plain; use"
                      " model.spread=False.")
    return
  try:
    canonical_steps(form)
  except UserError as error:
    raise UserError(
        f"model.form={form}: {error} Or use model.form=plain."
    ) from None
  units = {op.unit for op in ops_of(get_scheme(form), PixelShuffle)}
  if config.model.spread and not units & {"channel", "value"}:
    raise UserError(
        f"model.spread looks at sorted values, of which model.form={form} has"
        " none; use model.spread=False."
    )
  if config.model.patch % config.block:
    raise UserError(
        f"model.form={form} needs whole blocks in a patch, but model.patch="
        f"{config.model.patch} is not a multiple of block={config.block}; use"
        " such a patch or model.form=plain."
    )


def _check_adaptnet(config: ml_collections.ConfigDict) -> None:
  model, data = config.model, config.data
  if model.form != "plain":
    raise UserError(
        "model.embed=adaptnet learns what a key does inside blocks, of which"
        f" model.form={model.form} leaves nothing; use model.form=plain."
    )
  whole = (data.height, data.width)
  if data.resize != "exact" or (data.crop_height, data.crop_width) != whole:
    raise UserError(
        "model.embed=adaptnet has weights for each block of an image, but"
        f" data.resize={data.resize} and crops of {data.crop_height}x"
        f"{data.crop_width} of {data.height}x{data.width} put blocks at other"
        " places; use resize=exact and crops of the whole image."
    )
  _check_places(model, "has weights for each block of an image, which a model"
                " without places cannot use")
  if model.patch % config.block:
    raise UserError(
        "model.embed=adaptnet needs whole blocks in a patch, but model.patch="
        f"{model.patch} is not a multiple of block={config.block}; use such a"
        " patch."
    )
  if config.start.adapt or config.eval.adapt:
    raise UserError(
        "start.adapt and eval.adapt transform a linear embedding, which"
        " model.embed=adaptnet is not; use model.embed=dense."
    )
  _check_dense_alone(model)


def _check_rank(config: ml_collections.ConfigDict) -> None:
  model = config.model
  if model.form not in ("blockwise", "blockwise_value"):
    raise UserError(
        "model.embed=rank draws a picture of sorted values, which model.form="
        f"{model.form} is not; use blockwise or blockwise_value, or"
        " model.embed=dense."
    )
  _check_places(model, "looks at neighbouring blocks, which a hidden layout"
                " does not have")
  if config.block > rank.LARGEST_BLOCK:
    raise UserError(
        f"model.embed=rank takes blocks of at most {rank.LARGEST_BLOCK}, not"
        f" block={config.block}; use model.embed=dense."
    )
  _check_dense_alone(model)


def _check_places(model: ml_collections.ConfigDict, why: str) -> None:
  if model.pos_embed == "none" or tuple(model.pos_region) != (1, 1):
    raise UserError(f"model.embed={model.embed} {why}; use model.embed=dense.")


def _check_dense_alone(model: ml_collections.ConfigDict) -> None:
  for name in ("spread", "reader"):
    if model[name]:
      raise UserError(
          f"model.{name}={model[name]} is of model.embed=dense; take it out, or"
          " use that."
      )
