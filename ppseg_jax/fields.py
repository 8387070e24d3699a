"""What each field of a config may hold: tables, from top to bottom.

Here a field is looked at by itself; what two of them must be to each other is
checked in `config.py`.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import ml_collections

from ppseg_jax.class_weights import METHODS
from ppseg_jax.data import SOURCES
from ppseg_jax.data.tfds import PREFIX
from ppseg_jax.encryption import KEY_PLANS
from ppseg_jax.errors import UserError
from ppseg_jax.losses import OBJECTIVES
from ppseg_jax.models.decoders import DECODERS
from ppseg_jax.models.decoders.parts import NORMS
from ppseg_jax.models.embed import EMBEDS
from ppseg_jax.models.pretrained import PIXELS
from ppseg_jax.models.vit import SIZES

_FLOAT32_MAX = 3.4e38


class Rule(NamedTuple):
  """What a field may hold: in words, after `must be`, and as a test."""

  text: str
  holds: Callable[[Any], bool]


def integer(at_least: int, bits: int = 31) -> Rule:
  """An integer below 2**bits; of 31 is what counters on a device hold."""
  # type(), since True is an instance of int, and NumPy's integers make no JSON.
  return Rule(
      f"an integer, at least {at_least} and less than 2**{bits}",
      lambda value: type(value) is int and at_least <= value < 2**bits,
  )


def number(
    *, at_least: float | None = None, above: float | None = None,
    at_most: float | None = None, below: float | None = None,
) -> Rule:
  """An integer or a float within bounds that float32 holds: nan is none."""
  bounds = [
      (words, passes, bound) for words, passes, bound in (
          ("at least", operator.ge, at_least),
          ("greater than", operator.gt, above),
          ("at most", operator.le, at_most),
          ("less than", operator.lt, below),
      ) if bound is not None
  ]

  def holds(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool)
        and abs(value) <= _FLOAT32_MAX
        and all(passes(value, bound) for _, passes, bound in bounds)
    )

  said = " and ".join(f"{words} {bound}" for words, _, bound in bounds)
  return Rule(f"a finite number, {said}", holds)


def choice(*names: str) -> Rule:
  """One of the names; an empty one is said in words."""
  said = [name or "empty" for name in names]
  return Rule(f"one of {', '.join(said)}",
              lambda value: isinstance(value, str) and value in names)


def several(rule: Rule, least: int = 0, most: int | None = None) -> Rule:
  """A tuple, or the list that JSON makes of it, with a rule for each entry."""
  count = f"{least}" if most == least else f"{least} or more"
  return Rule(
      f"a tuple of {count} entries, each {rule.text}",
      lambda value: isinstance(value, tuple | list)
      and least <= len(value) and (most is None or len(value) <= most)
      and all(rule.holds(entry) for entry in value),
  )


_TEXT = Rule("a text", lambda value: isinstance(value, str))
_FLAG = Rule("True or False", lambda value: isinstance(value, bool))
_COUNT = integer(1)
_COUNT_OR_0 = integer(0)
_POSITIVE = number(above=0)
_NOT_NEGATIVE = number(at_least=0)
_BELOW_1 = number(at_least=0, below=1)
_BUDGET = number(at_least=0, at_most=1000)  # of differential privacy
_WEIGHTS = several(_NOT_NEGATIVE)
_DATA = Rule(
    f"one of {', '.join(SOURCES)}, or tfds:NAME",
    lambda value: isinstance(value, str)
    and (value in SOURCES or value.startswith(PREFIX)),
)
_AXIS = Rule(
    f"-1, for all devices that are left, or {_COUNT.text}",
    lambda value: _COUNT.holds(value) or (type(value) is int and value == -1),
)

# What a stored config that lacks one of these fields was run under.
UNSTORED = {
    "levels": (), "model.spread": False, "model.reader": 0,
    "loss.teacher": "", "loss.teacher_layers": (0,), "loss.teacher_weight": 1.0,
    "optim.embed_lr": 0.0, "optim.only": "", "data.more": "",
    "data.tfds_image": "", "data.tfds_label": "", "data.val_share": 0.0,
    "data.resize": "exact", "eval.boundary": False, "eval.at": "input",
    "eval.data_name": "", "eval.data_dir": "", "eval.map": "",
    "private.pixels": 0, "private.epsilon": 0.0, "private.rho": 0.0,
    "private.groups": 1, "private.bits": 0,
}

# Of configs/setr_enc.py and its siblings, in their order.
EXPERIMENT = {
    "seed": integer(0, bits=64),
    "steps": _COUNT,
    "batch_size": _COUNT,
    "accumulate": _COUNT,
    "log_every": _COUNT,
    "checkpoint_every": _COUNT,
    "panels": _COUNT_OR_0,
    "scheme": _TEXT,
    "block": _COUNT,
    "levels": several(_TEXT),
    "setting": choice("cloud", "home"),
    "key_plan": choice("", *KEY_PLANS),
    "clients": _COUNT,

    "private.pixels": _COUNT_OR_0,
    "private.epsilon": _BUDGET,
    "private.rho": _BUDGET,
    "private.groups": _COUNT,
    "private.bits": _COUNT_OR_0,

    "start.workdir": _TEXT,
    "start.fresh": _TEXT,
    "start.adapt": _FLAG,

    "model.size": choice(*SIZES),
    "model.patch": _COUNT_OR_0,
    "model.embed": choice(*EMBEDS),
    "model.form": _TEXT,
    "model.reader": _COUNT_OR_0,
    "model.spread": _FLAG,
    "model.decoder": choice(*DECODERS),
    "model.aux": _FLAG,
    "model.aux_weight": _NOT_NEGATIVE,
    "model.norm": choice(*NORMS),
    "model.pos_embed": choice("learned", "none"),
    "model.pos_region": several(_COUNT_OR_0, 2, 2),
    "model.stem": _COUNT_OR_0,
    "model.class_token": _FLAG,
    "model.drop_path": _BELOW_1,
    "model.dropout": _BELOW_1,
    "model.pretrained": _TEXT,
    "model.pretrained_missing": _TEXT,
    "model.pretrained_pixels": choice("", *PIXELS),
    "model.dtype": choice("float32", "bfloat16"),
    "model.remat": _FLAG,

    "loss.objective": choice(*OBJECTIVES),
    "loss.teacher": _TEXT,
    "loss.teacher_layers": several(_COUNT_OR_0, 1),
    "loss.teacher_weight": _NOT_NEGATIVE,
    "loss.class_weights": Rule(
        f"{_WEIGHTS.text}, or {' or '.join(METHODS)}",
        lambda value: _WEIGHTS.holds(value) or (
            isinstance(value, tuple | list) and len(value) == 1
            and value[0] in METHODS
        ),
    ),
    "loss.smoothing": _BELOW_1,
    "loss.ohem": _BELOW_1,
    "loss.ohem_kept": _COUNT_OR_0,

    "optim.name": choice("adamw", "sgd"),
    "optim.lr": _POSITIVE,
    "optim.min_lr": _NOT_NEGATIVE,
    "optim.schedule": choice("cosine", "poly"),
    "optim.power": _POSITIVE,
    "optim.warmup": _COUNT_OR_0,  # a trial may end before the warm-up does
    "optim.weight_decay": _NOT_NEGATIVE,
    "optim.b2": _BELOW_1,
    "optim.momentum": _BELOW_1,
    "optim.clip": _NOT_NEGATIVE,
    "optim.head_lr": _NOT_NEGATIVE,  # 0: the decoder stays as it is
    "optim.layer_decay": number(above=0, at_most=1),
    "optim.embed_lr": _NOT_NEGATIVE,
    "optim.only": _TEXT,
    "optim.ema": _BELOW_1,

    "data.name": _DATA,
    "data.dir": _TEXT,
    "data.more": _TEXT,
    "data.tfds_image": _TEXT,
    "data.tfds_label": _TEXT,
    "data.val_share": _BELOW_1,
    "data.resize": choice("exact", "shorter", "none"),
    "data.height": _COUNT,
    "data.width": _COUNT,
    "data.crop_height": _COUNT_OR_0,
    "data.crop_width": _COUNT_OR_0,
    "data.train_images": _COUNT,
    "data.val_images": _COUNT,
    "data.scale_min": number(above=0, at_most=16),
    "data.scale_max": number(above=0, at_most=16),
    "data.flip": _FLAG,
    "data.photometric": number(at_least=0, at_most=1),
    "data.cache": _FLAG,
    "data.leave_out": _TEXT,

    "eval.every": _COUNT,
    "eval.images": _COUNT_OR_0,
    "eval.scheme": _TEXT,
    "eval.key_plan": choice("", *KEY_PLANS),
    "eval.adapt": _FLAG,
    "eval.split": choice("val", "left_out"),
    "eval.whole": _FLAG,
    "eval.stride": _COUNT_OR_0,
    "eval.windows": _COUNT,
    "eval.boundary": _FLAG,
    "eval.at": choice("input", "original"),
    "eval.data_name": Rule(
        f"empty, {_DATA.text}", lambda value: value == "" or _DATA.holds(value)
    ),
    "eval.data_dir": _TEXT,
    "eval.map": _TEXT,

    "predict.dir": _TEXT,
    "predict.scheme": _TEXT,
    "predict.ids": choice("train", "raw"),

    "refine.steps": _COUNT,
    "refine.lr": _POSITIVE,
    "refine.width": _COUNT,
    "refine.layers": _COUNT,
    "refine.factor": _COUNT,
    "refine.radii": several(integer(1, bits=10), 1),
    # Of covariances of colours in 0 to 1, which float32 rounds at some 1e-7.
    "refine.eps": several(number(at_least=1e-6), 1),
    "refine.filter_images": _COUNT,

    "mesh.data": _AXIS,
    "mesh.fsdp": _AXIS,
    "mesh.model": _AXIS,
}

# Of configs/attacks.py.
ATTACKS = {
    "seed": integer(0, bits=32),  # jax.random.key drops what is above
    "images": _COUNT,
    "others": integer(2),
    "block": _COUNT,
    "panels": _COUNT_OR_0,
    "attacks": several(_TEXT),
    "schemes": several(_TEXT),
    "budget.steps": _COUNT,
    "budget.unet_steps": _COUNT,
    "budget.rounds": _COUNT,
    "budget.tries": _COUNT,
    "views.count": _COUNT,
    "views.known": _FLAG,
    "views.forms": _COUNT,
    "recognition.workdir": _TEXT,
    **{name: EXPERIMENT[name] for name in (
        "data.name", "data.dir", "data.tfds_image", "data.tfds_label",
        "data.val_share", "data.height", "data.width",
        "data.train_images", "data.val_images", "data.cache", "data.leave_out",
        "private.pixels", "private.epsilon", "private.rho", "private.groups",
        "private.bits",
    )},
}


def check(
    config: ml_collections.ConfigDict, table: dict[str, Rule]
) -> None:
  """Raises UserError for the first field whose value its rule refuses.

  Also for a field of the table that the config lacks, and for one that it has
  besides: a mistyped name in a config file would otherwise change nothing,
  without a word.
  """
  found = dict(_flat(config))
  for name, rule in table.items():
    if name not in found:
      raise UserError(
          f"the config has no field {name}, which must be {rule.text}; add it"
          " as in configs/."
      )
    if not rule.holds(found[name]):
      raise UserError(f"{name}={found[name]!r} must be {rule.text}.")
  unread = found.keys() - table.keys()
  if unread:
    raise UserError(
        f"the config has a field {min(unread)}, which nothing reads; mend its"
        " name or remove it."
    )


def _flat(
    config: ml_collections.ConfigDict, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _flat(value, f"{prefix}{name}.")
    else:
      yield prefix + name, value
