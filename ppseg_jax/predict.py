"""Segments a folder of pictures with a trained model."""

import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from ppseg_jax import distributed, evaluate, pictures, sharding, viz
from ppseg_jax.data.sizes import block_unit, input_size, largest, resize
from ppseg_jax.encryption import fresh_keys, get_scheme
from ppseg_jax.encryption.blocks import check_size
from ppseg_jax.errors import UserError
from ppseg_jax.models.setr import SETR
from ppseg_jax.runs import model as models
from ppseg_jax.runs.workdir import Workdir
from ppseg_jax.windows import windows_of


def predict(config: ml_collections.ConfigDict, folder: Path) -> int:
  """Segments every picture of `config.predict.dir`; returns how many.

  With `predict.scheme` empty the pictures are taken as they are, that is as a
  client sent them; the labels have the true size where a ciphertext names it.
  Sizes may differ; each new one takes a compilation. Otherwise this process
  plays the client too: it resizes each photo as `data.resize` says (bilinear),
  pads it to whole blocks, encrypts it under a fresh key, which it then forgets,
  and brings the logits back to the photo's own size (bilinear) before the
  greatest is taken, so that labels have as many pixels as the photo.

  Writes, for each picture, `<stem>_ids.png`, `<stem>_colour.png` and
  `<stem>_overlay.png` to `workdir/predict`. Ids are train ids, or raw ids of
  the label space if `predict.ids` is `raw`. Files that are no pictures, hidden
  ones and subfolders are skipped, and a line says how many. Several processes
  share the pictures out, and each has the whole model.

  Raises:
    UserError: for a picture that is not taken, before anything is written.
  """
  _check_keys(config)
  paths = _find(config.predict.dir)
  space = models.label_space(config, folder)
  mesh = sharding.make_mesh(config.mesh)
  trained = models.load(config, folder, space.num_classes, mesh)
  variables, mine = trained.variables, paths
  if distributed.several():
    variables = jax.device_put(jax.tree.map(distributed.whole, variables))
    mine = paths[jax.process_index() :: jax.process_count()]
  _check_all(config, mine, len(paths))
  segment = _make_segment(config, trained.model)
  out = Workdir(folder).predictions
  for path in mine:
    image, size = _read(config, path)
    seen, logits = (np.asarray(x) for x in segment(
        variables, fresh_keys(1), image[None]
    ))
    if config.predict.scheme:
      height, width = input_size(config.data, size)
      seen = resize(seen[:height, :width], size, Image.Resampling.NEAREST)
      labels = largest(logits[:height, :width], size)
    else:  # logits are labels already; what was padded is cut off
      seen, labels = (x[:size[0], :size[1]] for x in (seen, logits))
    colours = space.colourise(labels)
    raw = config.predict.ids == "raw"
    viz.save_png(out / f"{path.stem}_ids.png",
                 space.to_raw_ids(labels) if raw else labels)
    viz.save_png(out / f"{path.stem}_colour.png", colours)
    viz.save_png(out / f"{path.stem}_overlay.png", viz.overlay(seen, colours))
  distributed.gather(None)  # all are written
  return len(paths)


def _check_keys(config: ml_collections.ConfigDict) -> None:
  """Pictures are encrypted under fresh keys, which some models cannot read.

  Raises UserError for such a model.
  """
  if (config.predict.scheme and config.model.form == "plain"
      and config.key_plan in ("shared", "client")):
    raise UserError(
        f"predict.scheme='{config.predict.scheme}' encrypts under fresh keys,"
        f" but this model was trained under key_plan={config.key_plan} and"
        " reads no other; give pictures encrypted under that key, and no"
        " predict.scheme."
    )


def _find(folder: str) -> list[Path]:
  """The pictures to segment; prints how many other files are skipped."""
  if not folder or not Path(folder).is_dir():
    raise UserError(
        f"predict.dir='{folder}' is no folder; give one with images with"
        " --config.predict.dir=."
    )
  paths, others = pictures.list_pictures(Path(folder))
  if not paths:
    raise UserError(f"predict.dir='{folder}' holds no image file.")
  stems = {}
  for path in paths:  # folded: some file systems do not tell a from A
    other = stems.setdefault(path.stem.casefold(), path)
    if other is not path:
      raise UserError(
          f"predict.dir='{folder}': {other.name} and {path.name} would write"
          " the same files; rename one."
      )
  if others:
    more = ", ..." if len(others) > 5 else ""
    print(f"skipped, not a picture ({len(others)}):",
          ", ".join(others[:5]) + more)
  return paths


def _check_all(
    config: ml_collections.ConfigDict, paths: list[Path], count: int
) -> None:
  """Reads every picture, so that none fails after results were written.

  Says, once, how many are large, and how many ciphertexts lack what `encrypt`
  writes into them. Of several processes each reads its part of all `count`.
  """
  large = 0
  for path in paths:
    image, _ = _read(config, path)
    large += image.shape[0] >= 2 * config.data.height
  large = sum(distributed.gather(large))
  if large and distributed.first():
    print(
        f"warning: {large} of {count} pictures are at least twice as high"
        f" as what the model was trained on, {config.data.height}x"
        f"{config.data.width}: things in them are larger than it knows; bring"
        " pictures to about that size before they are encrypted.",
        file=sys.stderr,
    )
  encrypted = not config.predict.scheme and models.reads(config)
  bare = sum(distributed.gather(sum(
      not pictures.has_header(path) for path in paths if encrypted
  )))
  if bare and distributed.first():
    print(
        f"warning: {bare} of {count} pictures do not say how they were"
        " encrypted, as those of 'encrypt' do, and are taken for ciphertexts"
        f" of {', '.join(models.reads(config))} in blocks of {config.block};"
        " plain photos need --config.predict.scheme=.", file=sys.stderr,
    )


def _read(
    config: ml_collections.ConfigDict, path: Path
) -> tuple[np.ndarray, tuple[int, int]]:
  """What to give the model, uint8 [H, W, 3], and the labels' (height, width).

  A photo is resized and padded; a ciphertext is taken as it is.
  """
  image = pictures.read_rgb(path)
  if config.predict.scheme:
    size = image.shape[:2]
    resized = resize(image, input_size(config.data, size))
    return pictures.pad(resized, block_unit(config)), size
  header = pictures.has_header(path)
  if models.reads(config) and not header and pictures.is_lossy(path):
    raise UserError(
        f"{path} is compressed with loss, which changes the values of a"
        " ciphertext; give the PNG that 'encrypt' wrote, or, if it is a plain"
        " photo, --config.predict.scheme=."
    )
  for unit in (config.block, config.model.patch):
    try:
      check_size(image.shape, unit)
    except UserError as error:
      raise UserError(f"{path}: {error}") from None
  return image, _true_size(config, path) if header else image.shape[:2]


def _true_size(
    config: ml_collections.ConfigDict, path: Path
) -> tuple[int, int]:
  """(height, width) without padding, by the text fields of a ciphertext.

  Raises UserError for a scheme or a block that the model does not read.
  """
  try:
    header = pictures.read_header(path)
  except UserError as error:
    raise UserError(f"{path} {error}") from None
  schemes = models.reads(config)
  if header.scheme not in schemes and header.scheme == get_scheme(
      config.scheme
  ).name:
    raise UserError(
        f"{path} is encrypted by '{header.scheme}', which moves blocks, so that"
        " only who has its key can place the labels; encrypt it by"
        f" {', '.join(schemes) or 'plain'}, or give photos and"
        f" --config.predict.scheme={header.scheme}."
    )
  if header.scheme not in schemes:
    raise UserError(
        f"{path} is encrypted by '{header.scheme}', but this model reads"
        f" {', '.join(schemes) or 'plain images'}; encrypt it by that, or use"
        " another model."
    )
  if header.block != config.block:
    raise UserError(
        f"{path} is encrypted in blocks of {header.block}, but this model reads"
        f" blocks of {config.block}; encrypt it with --block={config.block}."
    )
  return header.height, header.width


def _make_segment(config: ml_collections.ConfigDict, model: SETR) -> Callable:
  """The jitted (variables, keys [1], images uint8 [1, H, W, 3]) ->
  (what the model saw, its answer).

  The answer is float32 logits [H, W, K] if `predict.scheme` is given, and
  uint8 labels [H, W] otherwise.
  """
  ask = evaluate.make_ask(
      model, config.predict.scheme or "plain", config.block,
      windows_of(config),
  )

  def segment(variables, keys, images):
    seen, logits = ask(variables, keys, images)
    if config.predict.scheme:
      return seen[0], logits[0]
    return seen[0], logits[0].argmax(-1).astype(jnp.uint8)

  return jax.jit(segment)
