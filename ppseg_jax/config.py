"""Checks of a config, before anything is read, compiled or written."""

import math
from collections.abc import Mapping

import ml_collections

from ppseg_jax import class_weights, fields, model_checks
from ppseg_jax.data import encrypted, parse_more, parse_parts
from ppseg_jax.data.labels import LabelSpace
from ppseg_jax.encryption import (
    BlockScramble,
    Scheme,
    at_level,
    get_scheme,
    ops_of,
)
from ppseg_jax.encryption.levels import check_noisy
from ppseg_jax.encryption.schemes import known_ops, shown
from ppseg_jax.errors import UserError


def resolve(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A checked copy of the config in which nothing is left to be derived.

  See `fill_in` for what is. Resolving what is resolved changes nothing.

  Raises UserError for the first field whose value cannot work.
  """
  config = config.copy_and_resolve_references()
  check(config)
  fill_in(config)
  encrypted.check_config(config)
  _check_sizes(config)
  _check_hidden(config)
  _check_setting(config)
  model_checks.check(config)
  _check_windows(config)
  _check_private(config)
  return config


def fill_in(config: ml_collections.ConfigDict) -> None:
  """Sets, in the config itself, the fields whose value follows from others.

  An empty `key_plan` is `image` where the cloud trains and `epoch` at home.
  `model.patch` 0 is the block, `data.crop_height` and `crop_width` 0 the whole
  image, `eval.stride` 0 the shorter side of the crop; `eval.scheme` and
  `eval.key_plan` are the training's if they are empty. `model.form` is the
  scheme whose canonical form the patch embedding reads, `plain` for the patch
  as it is: if it is empty the training scheme's (of one that hides the layout
  the scheme without), or `blockwise` for a model trained on plain images, which
  then serves the ciphertexts of `blockwise`.
  """
  for field, value in fields.UNSTORED.items():
    section, _, name = field.rpartition(".")
    if section and section not in config:
      config[section] = ml_collections.ConfigDict()
    where = config[section] if section else config
    if name not in where:
      where[name] = value
  config.key_plan = config.key_plan or (
      "image" if config.setting == "cloud" else "epoch"
  )
  config.model.patch = config.model.patch or config.block
  data = config.data
  data.crop_height = data.crop_height or data.height
  data.crop_width = data.crop_width or data.width
  config.eval.stride = config.eval.stride or min(
      data.crop_height, data.crop_width
  )
  config.eval.scheme = config.eval.scheme or config.scheme
  tested = config.eval.data_name or config.data.name
  config.eval.key_plan = config.eval.key_plan or (
      "image" if tested == encrypted.NAME else config.key_plan
  )
  config.model.form = config.model.form or (
      "blockwise" if config.scheme == "plain" else shown(config.scheme)
  )


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UserError for the first value that cannot work.

  First each field by itself, by the table `fields.EXPERIMENT`, then what must
  fit together before anything is filled in.
  """
  fields.check(config, fields.EXPERIMENT)
  for name in (config.scheme, config.eval.scheme, config.predict.scheme):
    if name:
      get_scheme(name)
  for level in filter(None, config.get("levels", ())):
    at_level(config.scheme, level)
  _check_data(config)
  optim = config.optim
  if optim.min_lr > optim.lr:
    raise UserError(
        f"optim.min_lr={optim.min_lr}, the rate of the last step, must be at"
        f" most optim.lr={optim.lr}."
    )
  weights = config.loss.class_weights
  if weights and not any(weights):
    raise UserError(
        f"loss.class_weights={weights} must not all be 0; give () for 1 each."
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


def _check_data(config: ml_collections.ConfigDict) -> None:
  data = config.data
  parse_more(data.more)
  if not parse_parts(data.leave_out) and config.eval.split != "val":
    raise UserError(
        "eval.split=left_out needs data.leave_out, the part of train that is"
        " left out."
    )
  shorter = min(data.height, data.width)
  if data.name == "streets" and shorter < 32:
    raise UserError(
        f"data.height={data.height} and data.width={data.width} must be at"
        " least 32 for data.name=streets, whose scenes are drawn."
    )
  for name in ("data_dir", "map"):
    if config.eval[name] and not config.eval.data_name:
      raise UserError(
          f"eval.{name} has no effect without eval.data_name, the data set to"
          " test on."
      )
  if config.eval.data_name and config.eval.split != "val":
    raise UserError(
        f"eval.split={config.eval.split} is a part of the training's data, but"
        f" eval.data_name={config.eval.data_name}; use eval.split=val."
    )
  if data.scale_min > data.scale_max:
    raise UserError(
        f"data.scale_min={data.scale_min} must be at most data.scale_max="
        f"{data.scale_max}."
    )
  if round(shorter * data.scale_min) < 1:
    raise UserError(
        f"data.scale_min={data.scale_min} leaves nothing of images of"
        f" {data.height}x{data.width}; make it at least {1 / shorter:.2g}."
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
  unit = math.lcm(patch, block)
  if data.resize != "exact" and unit % config.refine.factor:
    raise UserError(
        f"refine.factor={config.refine.factor} must divide {unit}, to whose"
        f" multiples images are padded with data.resize={data.resize}."
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


def _check_setting(config: ml_collections.ConfigDict) -> None:
  """A key must meet one image, in one form.

  Where the cloud trains, images are encrypted once, and what augments them acts
  on ciphertexts. At home anything may augment them, since each epoch has keys
  of its own.
  """
  if config.levels and config.data.name == encrypted.NAME:
    raise UserError(
        "levels are chosen by the pictures' owners, and data.name=encrypted"
        " comes at those; use levels=()."
    )
  if config.levels and config.key_plan not in ("image", "epoch"):
    raise UserError(
        f"levels={tuple(config.levels)} are drawn by the key of each image, but"
        f" key_plan={config.key_plan}; use key_plan=image, or epoch at home."
    )
  if config.setting == "home":
    if config.key_plan != "epoch":
      raise UserError(
          f"key_plan={config.key_plan} would encrypt every form that an image"
          " is augmented to under one key, which gives it away; with"
          " setting=home use key_plan=epoch, or setting=cloud, which encrypts"
          " an image once."
      )
    return
  if config.key_plan == "epoch":
    raise UserError(
        "key_plan=epoch encrypts an image again at every epoch, which only its"
        " owner can do; use setting=home, or another key plan."
    )
  data, scheme = config.data, get_scheme(config.scheme)
  for name, neutral in (("scale_min", 1.0), ("scale_max", 1.0),
                        ("photometric", 0.0)):
    if data[name] != neutral:
      raise UserError(
          f"data.{name}={data[name]} changes plain images, but with"
          " setting=cloud they are encrypted before anything augments them;"
          f" use {neutral}, or setting=home."
      )
  whole = (data.crop_height, data.crop_width) == (data.height, data.width)
  if (data.flip or not whole) and not known_ops(scheme):
    raise UserError(
        f"nothing is known of cut or mirrored ciphertexts of scheme"
        f" '{scheme.name}', whose ops are its own; use data.flip=False, and"
        " crops of the image's size."
    )
  if data.flip and scheme.name != "plain":
    own = config.key_plan == "image"
    if not own and config.model.form == "plain":
      raise UserError(
          f"data.flip=True mirrors ciphertexts, and a mirrored one is none of"
          f" the {config.key_plan} key; use data.flip=False, or"
          " a model.form that no key changes."
      )
  if not whole and ops_of(scheme, BlockScramble):
    raise UserError(
        f"scheme '{scheme.name}' moves blocks over the image, so that a window"
        " of a ciphertext shows blocks from everywhere; make data.crop_height"
        " and data.crop_width the image's, or use setting=home."
    )


def check_budget(private: ml_collections.ConfigDict, block: int) -> None:
  """Raises UserError for a section `private` of which no release can be made.
  """
  given = [name for name in ("epsilon", "rho") if private[name]]
  if not private.pixels:
    if given:
      raise UserError(
          f"private.{given[0]} has no effect without private.pixels, in how"
          " many of which neighbouring images differ."
      )
    return
  if len(given) != 1:
    raise UserError(
        f"private.pixels={private.pixels} needs a budget; give private.epsilon"
        " or private.rho, one of them."
    )
  try:
    check_noisy(private.groups, private.bits, block)
  except UserError as error:
    raise UserError(f"private: {error}") from None


def _check_private(config: ml_collections.ConfigDict) -> None:
  """An image is released once: a second release would spend a second budget."""
  check_budget(config.private, config.block)
  if not config.private.pixels:
    return
  for field, value, why in (
      ("setting", "cloud", "what changes an image at every epoch would need a"
       " release, and a budget, for each"),
      ("data.resize", "exact", "images of other sizes are padded, and padding"
       " repeats pixels, each of which counts"),
      ("predict.scheme", "", "a picture that is given away is released by its"
       " owner, with python -m ppseg_jax.client encrypt --epsilon"),
  ):
    section, _, name = field.rpartition(".")
    found = (config[section] if section else config)[name]
    if found != value:
      raise UserError(
          f"private.pixels={config.private.pixels} with {field}={found}: {why};"
          f" use {field}={value or repr('')}."
      )
  if encrypted.NAME in (config.data.name, config.eval.data_name):
    raise UserError(
        "private.pixels adds noise to plain images, and data.name=encrypted"
        " comes with that of its owners; use private.pixels=0."
    )


def _one_size(data: ml_collections.ConfigDict) -> bool:
  """Whether crops and whole images are of one size."""
  return data.resize == "exact" and (
      (data.crop_height, data.crop_width) == (data.height, data.width)
  )


def _check_windows(config: ml_collections.ConfigDict) -> None:
  """Images are encrypted whole, and run in windows of the crop's size."""
  if config.eval.whole or _one_size(config.data):
    return
  for name in (config.eval.scheme, config.predict.scheme):
    if name and ops_of(get_scheme(name), BlockScramble):
      raise UserError(
          f"scheme '{name}' moves blocks over the whole image, so that a window"
          " of the ciphertext is not the ciphertext of a window; use"
          " eval.whole=True, or crops of the image's size."
      )


def _check_hidden(config: ml_collections.ConfigDict) -> None:
  """A scheme that hides the layout is for tests of models that need none.

  For training too where clients moved the labels along with the blocks.
  """
  tested = config.eval.data_name or config.data.name
  for name, field, used in ((config.data.name, "scheme", config.scheme),
                            (tested, "eval.scheme", config.eval.scheme)):
    if name == encrypted.NAME and encrypted.moves_blocks(used):
      check_bag(config, f"{field}='{used}'", get_scheme(used))
  if config.data.name != encrypted.NAME and get_scheme(config.scheme).hidden:
    raise UserError(
        f"scheme='{config.scheme}' hides where blocks lie, but training needs"
        " their places, which labels have; train on the scheme without, and"
        f" test with eval.scheme={config.scheme}."
    )
  for field in ("eval.scheme", "predict.scheme"):
    section, _, name = field.partition(".")
    if config[section][name] and get_scheme(config[section][name]).hidden:
      check_bag(config, f"{field}='{config[section][name]}'",
                 get_scheme(config[section][name]))


def check_bag(
    config: ml_collections.ConfigDict, what: str, scheme: Scheme
) -> None:
  """What a model may not need to know where a scheme hides the layout."""
  model, data = config.model, config.data
  if not config.eval.whole and not _one_size(data):
    raise UserError(
        f"{what} hides where blocks lie, so that no window can be cut; use"
        " eval.whole=True."
    )
  if model.patch != config.block:
    raise UserError(
        f"{what} hides which blocks lie together, but model.patch={model.patch}"
        f" and block={config.block}; make them the same."
    )
  if model.stem or model.decoder != "naive":
    raise UserError(
        f"{what} hides which blocks lie together; use model.stem=0 and"
        " model.decoder=naive, which look at none but their own."
    )
  # Bands of the model must hold whole bands of the scheme.
  heights = [op.height for op in ops_of(scheme, BlockScramble)]
  band = math.lcm(*heights)  # 0: of the whole image
  rows, columns = model.pos_region
  # Where images keep their sizes, one may be of any number of bands.
  grid = data.height // config.block if data.resize == "exact" else math.inf
  known = rows and rows < grid and (
      not band or band >= grid or rows % band
  )
  if model.pos_embed != "none" and (columns or known):
    raise UserError(
        f"{what} hides where blocks lie, which a model with model.pos_region="
        f"{tuple(model.pos_region)} needs to know; use model.pos_embed=none,"
        f" or model.pos_region=({band},0)."
    )


def check_mesh(
    config: ml_collections.ConfigDict, mesh_shape: Mapping[str, int],
    accumulate: int = 1,
) -> None:
  """Raises UserError where a batch cannot be cut evenly.

  Args:
    config: the run's.
    mesh_shape: devices along each axis of the mesh.
    accumulate: the number of parts of a training batch.
  """
  devices = mesh_shape["data"] * mesh_shape["fsdp"]
  unit = devices * accumulate
  if config.batch_size % unit:
    by = f"the {devices} devices of mesh.data and mesh.fsdp"
    if accumulate > 1:
      by += f" times accumulate={accumulate}"
    raise UserError(
        f"batch_size={config.batch_size} is not a multiple of {by}; choose"
        f" {-(-config.batch_size // unit) * unit} or another mesh"
        f"{' or accumulate' if accumulate > 1 else ''}."
    )


def check_classes(
    config: ml_collections.ConfigDict, space: LabelSpace
) -> None:
  """Raises UserError where `loss.class_weights` are not one a class."""
  weights = config.loss.class_weights
  if class_weights.method_of(config):
    return
  if weights and len(weights) != space.num_classes:
    raise UserError(
        f"loss.class_weights has {len(weights)} weights, but '{space.name}' has"
        f" {space.num_classes} classes; give one for each of"
        f" {', '.join(space.names)}, or () for none."
    )
