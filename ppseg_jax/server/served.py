"""A trained run as a server has it: what it reads, and what it answers."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections

from ppseg_jax import __version__, sharding
from ppseg_jax import config as config_checks
from ppseg_jax.data import encrypted
from ppseg_jax.data.encrypted import moves_blocks
from ppseg_jax.data.labels import VOID, LabelSpace
from ppseg_jax.data.sizes import block_unit
from ppseg_jax.encryption import (
    BlockScramble,
    Scheme,
    compact,
    get_scheme,
    ops_of,
)
from ppseg_jax.errors import UserError
from ppseg_jax.models import bag
from ppseg_jax.models.setr import SETR
from ppseg_jax.runs import model as models
from ppseg_jax.runs import workdir
from ppseg_jax.runs.workdir import Workdir
from ppseg_jax.windows import Windows, predict_logits, windows_of

LABELS, LOGITS = "image/png", "application/x-npy"
PNG = "image/png"


@dataclasses.dataclass(frozen=True)
class Served:
  """A model and what its clients must know of it.

  Attributes:
    scheme: that clients encrypt by.
    form: name of the scheme whose canonical form the model reads.
    block: side of a block in pixels.
    patch: side of a patch in pixels.
    unit: what height and width of an upload are multiples of.
    space: the classes.
    crop: (height, width) that it was trained on.
    model: SETR.
    variables: its variables, on one device.
    windows: how larger images are run.
  """

  scheme: Scheme
  form: str
  block: int
  patch: int
  unit: int
  space: LabelSpace
  crop: tuple[int, int]
  model: SETR
  variables: dict
  windows: Windows

  @property
  def forms(self) -> bool:
    """Whether the canonical form of an image gets the answer of the image."""
    return self.scheme.name == get_scheme(self.form).name != "plain"

  def uploads(self) -> tuple[str, ...]:
    """Content types that it takes."""
    try:
      compact.level_of(self.scheme)
    except UserError:
      return (PNG,)
    return (PNG, compact.KIND) if self.forms else (PNG,)

  def kinds(self) -> tuple[str, ...]:
    """What it can answer with."""
    return (LOGITS,) if self.scheme.hidden else (LABELS, LOGITS)

  def described(self) -> dict:
    """What a client needs to know, as JSON values."""
    hidden = None
    if self.scheme.hidden:
      heights = [op.height for op in ops_of(self.scheme, BlockScramble)]
      hidden = {"bands": math.lcm(*heights)}
    return {
        "ppseg_jax": __version__, "api": 1, "scheme": self.scheme.name,
        "block": self.block, "patch": self.patch,
        "form": get_scheme(self.form).name, "forms": self.forms,
        "hidden": hidden, "leak": self.scheme.leaks,
        "classes": [
            {"id": i, "name": name, "colour": list(colour)}
            for i, (name, colour) in enumerate(
                zip(self.space.names, self.space.colours, strict=True)
            )
        ],
        "void": VOID, "uploads": list(self.uploads()),
        "answers": list(self.kinds()),
    }


def load(folder: Path, scheme: str = "") -> Served:
  """The last checkpoint of a run's folder, on the first device.

  Args:
    folder: of the run.
    scheme: that clients encrypt by; '' for the one it was trained for.

  Raises:
    UserError: where there is no model, or one that does not read the scheme.
  """
  path = Workdir(folder).config
  if not path.exists():
    raise UserError(
        f"workdir '{folder}' holds no trained model; train one there with"
        " python -m ppseg_jax.main or give another --workdir."
    )
  config = ml_collections.ConfigDict(workdir.read_json(path))
  config_checks.fill_in(config)
  found = _scheme(config, scheme)
  space = models.label_space(config, folder)
  config.mesh = dict.fromkeys(sharding.AXES, 1)
  config.mesh.data = -1
  trained = models.load(
      config, folder, space.num_classes, sharding.make_mesh(config.mesh)
  )
  return Served(
      found, config.model.form, config.block, config.model.patch,
      block_unit(config), space,
      (config.data.crop_height, config.data.crop_width), trained.model,
      jax.device_put(jax.device_get(trained.variables), jax.devices()[0]),
      windows_of(config),
  )


def _scheme(config: ml_collections.ConfigDict, name: str) -> Scheme:
  """The scheme that is asked for, where the model reads it."""
  if config.model.form == "plain" and config.key_plan in ("shared", "client"):
    raise UserError(
        f"this run was trained under key_plan={config.key_plan} and reads no"
        " image under a key of its own; serve one trained with"
        " key_plan=image."
    )
  trained, form = get_scheme(config.scheme), get_scheme(config.model.form)
  reads = models.reads(config)
  if form.name in reads and _moved(config, form):
    reads.remove(form.name)
  if not name and not trained.hidden and (
      not trained.ops or (_moved(config, trained)
                          and form.ops and not moves_blocks(form))
  ):
    return form
  scheme = get_scheme(name) if name else trained
  if scheme.hidden:
    visible = scheme.name.rpartition("_")[0]
    config.eval.whole = True  # a bag of blocks is never cut into windows
    config_checks.check_bag(config, f"--scheme={scheme.name}", scheme)
    if scheme.name == trained.name:
      return scheme
  else:
    visible = scheme.name
  if visible not in (reads or ["plain"]) or _moved(config, scheme):
    known = ", ".join(reads) or (
        "plain images" if form.name == "plain" else "none that stays in place"
    )
    raise UserError(
        f"--scheme={scheme.name}: this model reads {known}; choose that, or"
        " serve another run."
    )
  return scheme


def _moved(config: ml_collections.ConfigDict, scheme: Scheme) -> bool:
  """Whether labels would come back where only a key's owner can place them."""
  return (config.data.name == encrypted.NAME and not scheme.hidden
          and moves_blocks(scheme))


def make_answer(served: Served) -> Callable:
  """(variables, images uint8 [B, H, W, 3]) -> what is sent back, by kind.

  `image/png`: labels, uint8 [B, H, W]; not where the layout is hidden.
  `application/x-npy`: logits of each patch, float16 [B, h, w, K]; those of
  blocks in the order of the upload where the layout is hidden. Where the model
  has none for each patch, or the image takes several windows, they are the
  means over each patch of the logits that labels are made of.
  """
  model, patch, windows = served.model, served.patch, served.windows

  def logits_of_patches(variables, images, logits):
    b, h, w, _ = images.shape
    whole = windows.whole or (h <= windows.height and w <= windows.width)
    if whole and model.head.per_token:
      return model.apply(variables, images, upsample=False)
    grid = (b, h // patch, patch, w // patch, patch, -1)
    return logits.reshape(grid).mean((2, 4))

  def answer(variables, images):
    b, h, w, _ = images.shape
    if served.scheme.hidden:
      logits = bag.block_logits(model, variables, images)  # [B, N, K]
      grid = (b, h // served.block, w // served.block, -1)
      return {LOGITS: logits.reshape(grid).astype(jnp.float16)}
    logits = predict_logits(model, variables, images, windows)
    patches = logits_of_patches(variables, images, logits)
    return {LABELS: logits.argmax(-1).astype(jnp.uint8),
            LOGITS: patches.astype(jnp.float16)}

  if jax.default_backend() != "cpu":
    return answer

  def one_by_one(variables, images):
    """As quick on a CPU, and to the last bit what each has on its own."""
    answers = jax.lax.map(lambda image: answer(variables, image[None]), images)
    return {kind: x[:, 0] for kind, x in answers.items()}

  return one_by_one
