"""Configs: what a field may hold, what is filled in, what must fit together."""

import json
import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ppseg_jax import config as config_checks
from ppseg_jax import fields, losses, optim
from ppseg_jax.attacks import suite
from ppseg_jax.configs import attacks, setr_enc, setr_paper, setr_plain
from ppseg_jax.data.augment import make_augment
from ppseg_jax.data.labels import CITYSCAPES
from ppseg_jax.encryption import KEY_PLANS
from ppseg_jax.errors import UserError
from tests.helpers import photo

EXPERIMENTS = {
    f"{module.__name__}:{data}": (module, data)
    for module in (setr_enc, setr_paper, setr_plain)
    for data in ("streets", "camvid", "cityscapes", "cityscapes_adamw")
}


def flat(config, prefix=""):
  """{'a.b': value} of a config."""
  found = {}
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      found |= flat(value, f"{prefix}{name}.")
    else:
      found[prefix + name] = value
  return found


def put(config, name, value):
  """Sets a field as a config file may, to a value of any type."""
  *sections, last = name.split(".")
  for section in sections:
    config = config[section]
  del config[last]  # else an integer would become the float that it replaces
  config[last] = value


def changed(**fields):
  """A resolved config of images of 32x48, with fields like model__norm."""
  config = setr_enc.get_config()
  config.data.update(height=32, width=48)
  config.batch_size = 4
  for name, value in fields.items():
    put(config, name.replace("__", "."), value)
  return config_checks.resolve(config)


def is_number(value):
  return isinstance(value, int | float) and not isinstance(value, bool)


def with_number(default, number):
  """In place of a number the number, in place of a tuple all entries."""
  return (number,) * max(len(default), 1) if (
      isinstance(default, tuple)
  ) else number


def numeric(config):
  """The fields that hold numbers, or tuples of them, and their values."""
  return {
      name: value for name, value in flat(config).items()
      if is_number(value)
      or (isinstance(value, tuple) and all(map(is_number, value)))
  }


def refuse(check, config, name, value):
  """That the check refuses the value in a sentence which names both."""
  with pytest.raises(UserError) as caught:
    check(config)
  said = str(caught.value)
  assert said.startswith(f"{name}={value!r} must be "), said
  assert said.endswith(".") and "\n" not in said


CONFIGS = [(setr_enc.get_config, config_checks.resolve),
           (attacks.get_config, suite.check)]
NUMBERS = [(make, check, name) for make, check in CONFIGS
           for name in numeric(make())]


@pytest.mark.parametrize("module, data", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_every_field_has_a_check(module, data):
  assert flat(module.get_config(data)).keys() == fields.EXPERIMENT.keys()


@pytest.mark.parametrize("data", ["streets", "camvid", "cityscapes"])
def test_every_field_of_the_attacks_has_a_check(data):
  config = attacks.get_config(data)
  assert flat(config).keys() == fields.ATTACKS.keys()
  suite.check(config)


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf])
@pytest.mark.parametrize("make, check, name", NUMBERS)
def test_what_is_negative_or_no_number_is_refused(make, check, name, bad):
  config = make()
  value = with_number(flat(config)[name], bad)
  put(config, name, value)
  if name.startswith("mesh.") and bad == -1:
    check(config)  # the devices that are left
    return
  refuse(check, config, name, value)


@pytest.mark.parametrize("make, check, name", NUMBERS)
def test_zero_is_refused_or_runs(make, check, name):
  config = make()
  value = with_number(flat(config)[name], 0)
  put(config, name, value)
  try:
    config = check(config) or config
  except UserError as error:
    assert name in str(error) and str(error).endswith(".")
    return
  if make is setr_enc.get_config:
    run_shortly(config, name.split(".")[0])


def run_shortly(config, section):
  """What the section's fields are for, at the smallest size that shows it."""
  match section:
    case "optim":
      for config.optim.name in ("adamw", "sgd"):
        for config.optim.schedule in ("cosine", "poly"):
          update_twice(config)
    case "data":
      augment_once(config)
    case "loss":
      lose_once(config)
    case _:
      resolved = flat(config)
      assert all(resolved[name] for name in (
          "model.patch", "data.crop_height", "data.crop_width", "eval.stride",
          "eval.scheme", "eval.key_plan", "model.form",
      ))


def update_twice(config):
  optimizer = optim.make_optimizer(config.optim, config.steps)
  schedule = optim.make_schedule(config.optim, config.steps)
  rates = np.array([schedule(step) for step in (0, 1, config.steps)])
  assert np.isfinite(rates).all() and (rates >= 0).all()
  params = {
      name: {"block0": {"kernel": np.ones(2, np.float32)}}
      for name in ("encoder", "head")
  }
  state = optimizer.init(params)
  average = params
  for step in range(2):
    grads = jax.tree.map(np.sin, params)
    updates, state = optimizer.update(grads, state, params)
    params = jax.tree.map(jnp.add, params, updates)
    average = optim.averaged(average, params, config.optim.ema, step)
  assert all(np.isfinite(leaf).all()
             for leaf in jax.tree.leaves((params, state, average)))


def augment_once(config):
  data = config.data
  image = photo(data.height, data.width)
  labels = image[..., 0] % 19
  rng = np.random.default_rng(0)
  image, labels = make_augment(data)(rng, image, labels).values()
  size = (data.crop_height, data.crop_width)
  assert image.dtype == labels.dtype == np.uint8
  assert image.shape == (*size, 3) and labels.shape == size


def lose_once(config):
  logits = jnp.linspace(-3, 3, 2 * 4 * 5 * 19).reshape(2, 4, 5, 19)
  labels = jnp.arange(40).reshape(2, 4, 5) % 19
  loss = losses.cross_entropy(
      logits, labels, class_weights=tuple(config.loss.class_weights),
      smoothing=config.loss.smoothing, ohem=config.loss.ohem,
      ohem_kept=config.loss.ohem_kept,
  )
  assert np.isfinite(loss)


@pytest.mark.parametrize("name, value", [
    ("seed", 2**64), ("steps", 2**31), ("clients", 2**31), ("steps", 1e3),
    ("model.drop_path", 1.0), ("model.dropout", 1), ("loss.smoothing", 1.0),
    ("loss.ohem", 1.5), ("optim.lr", 1e39), ("optim.b2", 1.0),
    ("optim.momentum", 1.0), ("optim.ema", 1.0), ("optim.layer_decay", 1.01),
    ("optim.clip", 2**1100), ("data.photometric", 1.01),
    ("data.scale_max", 17.0), ("model.pos_region", (1, 1, 1)),
    ("refine.radii", ()), ("refine.eps", ()), ("refine.eps", (1e-7,)),
    ("refine.radii", (2.0,)), ("loss.class_weights", ("heavy",)),
    ("loss.class_weights", 3), ("mesh.model", -2), ("mesh.model", -1.0),
])
def test_what_is_beyond_a_range_is_refused(name, value):
  config = setr_enc.get_config()
  put(config, name, value)
  refuse(config_checks.resolve, config, name, value)


@pytest.mark.parametrize("make, check, name", [
    (make, check, name) for make, check in CONFIGS for name in flat(make())
])
def test_a_value_of_another_type_is_refused(make, check, name):
  """Here and nowhere else: a config file's values come as they are."""
  default = flat(make())[name]
  others = [None, {1}, "many" if not isinstance(default, str) else 3]
  if is_number(default):
    others.append(True)
  for value in others:
    config = make()
    put(config, name, value)
    refuse(check, config, name, value)


def test_the_largest_seed_runs():
  assert changed(seed=2**64 - 1).seed == 2**64 - 1


@pytest.mark.parametrize("make, check", CONFIGS)
def test_a_field_that_nothing_reads_is_refused(make, check):
  config = make()
  config.data.widht = 64
  with pytest.raises(UserError, match=r"field data\.widht, which nothing"):
    check(config)


@pytest.mark.parametrize("make, check", CONFIGS)
@pytest.mark.parametrize("name", ["seed", "data.width", "data"])
def test_a_field_that_is_missing_is_named(make, check, name):
  config = make()
  *sections, last = name.split(".")
  del (config[sections[0]] if sections else config)[last]
  with pytest.raises(UserError, match=rf"no field {name}[.\w]*, which must be"):
    check(config)


@pytest.mark.parametrize("changes, said", [
    ({"optim__lr": 0.1, "optim__min_lr": 0.2}, "at most optim.lr=0.1"),
    ({"loss__class_weights": (0, 0.0)}, "must not all be 0"),
    ({"data__scale_min": 2.0}, "at most data.scale_max=1.0"),
    ({"data__scale_min": 0.01}, "leaves nothing of images of 32x48"),
    ({"data__height": 24}, "at least 32 for data.name=streets"),
    ({"eval__split": "left_out"}, "needs data.leave_out"),
    ({"eval__stride": 12}, "block grid"),
    ({"scheme": "aso2024", "setting": "home"}, "use eval.whole=True"),
    ({"predict__scheme": "aso2024"}, "use eval.whole=True"),
    ({"setting": "home", "key_plan": "image"}, "use key_plan=epoch"),
    ({"setting": "home", "key_plan": "shared"}, "gives it away"),
    ({"key_plan": "epoch"}, "use setting=home"),
    ({"data__photometric": 0.2}, r"data\.photometric=0.2 changes plain"),
    ({"data__scale_max": 2.0}, r"data\.scale_max=2.0 changes plain"),
    ({"key_plan": "shared", "scheme": "kiya2022"}, "use data.flip=False"),
    ({"scheme": "aso2024", "eval__whole": True}, "blocks from everywhere"),
    ({"scheme": "blockwise_hidden"}, "train on the scheme without"),
    ({"eval__scheme": "blockwise_hidden"}, "use eval.whole=True"),
    ({"eval__scheme": "blockwise_hidden", "eval__whole": True},
     r"use model\.pos_embed=none"),
    ({"eval__scheme": "blockwise_hidden", "eval__whole": True,
      "model__pos_region": (2, 0)}, r"model\.pos_region=\(0,0\)"),
    ({"eval__scheme": "blockwise_bands2", "eval__whole": True,
      "model__pos_region": (1, 0)}, r"model\.pos_region=\(2,0\)"),
    ({"eval__scheme": "blockwise_hidden", "eval__whole": True,
      "model__patch": 16, "data__height": 32}, "make them the same"),
    ({"predict__scheme": "blockwise_hidden", "eval__whole": True,
      "model__pos_embed": "none", "model__decoder": "pup"},
     r"model\.decoder=naive"),
    ({"eval__adapt": True, "model__patch": 16}, "make them the same"),
    ({"eval__adapt": True, "eval__scheme": "horio2024",
      "data__crop_width": 0, "eval__stride": 0}, "come back in another order"),
    ({"model__pos_embed": "none", "model__stem": 2}, "use model.stem=0"),
    ({"loss__ohem": 0.7}, "loss.ohem has no effect"),
    ({"model__embed": "adaptnet"}, "put blocks at other places"),
    ({"model__embed": "adaptnet", "data__crop_width": 0, "eval__stride": 0,
      "model__pos_embed": "none"}, "model without places"),
    ({"model__embed": "adaptnet", "data__crop_width": 0, "eval__stride": 0,
      "model__form": "blockwise"}, "use model.form=plain"),
    ({"model__embed": "adaptnet", "data__crop_width": 0, "eval__stride": 0,
      "model__reader": 8}, "is of model.embed=dense"),
    ({"model__embed": "adaptnet", "data__crop_width": 0, "eval__stride": 0,
      "eval__adapt": True}, "transform a linear embedding"),
    ({"model__embed": "adaptnet", "data__crop_width": 0, "eval__stride": 0,
      "model__patch": 4, "eval__scheme": "independent"}, "whole blocks"),
])
def test_what_cannot_be_meant_is_refused(changes, said):
  base = {"data__crop_width": 32, "eval__stride": 16, "model__stem": 0,
          "model__form": "plain"}
  changed(**base)
  with pytest.raises(UserError, match=said):
    changed(**(base | changes))


@pytest.mark.parametrize("module, data", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_what_is_derived_is_filled_in(module, data):
  given = module.get_config(data)
  config = config_checks.resolve(given)
  assert config.eval.scheme == config.scheme == given.scheme
  assert config.eval.key_plan == config.key_plan
  assert config.model.patch == config.block
  assert config.eval.stride % config.block == 0 < config.eval.stride
  assert given.eval.scheme == "" and given.model.patch == 0  # a copy's fields


@given(
    module=st.sampled_from([setr_enc, setr_paper, setr_plain]),
    data=st.sampled_from(["streets", "camvid", "cityscapes_adamw"]),
    changes=st.fixed_dictionaries({}, optional={
        "scheme": st.sampled_from(["plain", "blockwise", "independent"]),
        "eval.scheme": st.sampled_from(["plain", "blockwise_value"]),
        "key_plan": st.sampled_from(KEY_PLANS),
        "eval.key_plan": st.sampled_from(KEY_PLANS),
        "model.form": st.sampled_from(["plain", "blockwise"]),
        "setting": st.sampled_from(["cloud", "home"]),
        "model.patch": st.sampled_from([8, 16, 32]),
        "data.crop_height": st.sampled_from([32, 64]),
        "eval.whole": st.booleans(),
    }),
)
def test_resolving_twice_changes_nothing(module, data, changes):
  config = module.get_config(data)
  for name, value in changes.items():
    put(config, name, value)
  try:
    once = config_checks.resolve(config)
  except UserError:
    assume(False)
  twice = config_checks.resolve(once)
  assert twice == once and twice is not once
  # As it comes back from a workdir, with lists for tuples.
  stored = ml_collections.ConfigDict(json.loads(json.dumps(once.to_dict())))
  assert json.dumps(config_checks.resolve(stored).to_dict()) == (
      json.dumps(once.to_dict())
  )


def test_what_an_earlier_version_stored_unfilled_is_filled_in():
  whole = changed()
  stored = whole.to_dict()
  stored["eval"] |= {"scheme": "", "key_plan": ""}
  stored = ml_collections.ConfigDict(stored)
  config_checks.fill_in(stored)
  assert stored == whole


@pytest.mark.parametrize("batch_size, devices, accumulate, said", [
    (4, 1, 1, None), (4, 1, 2, None), (4, 2, 2, None),
    (4, 1, 3, "multiple of the 1 devices"),
    (4, 4, 2, "accumulate=2; choose 8"),
])
def test_a_batch_that_does_not_divide_is_refused(
    batch_size, devices, accumulate, said
):
  config = changed(batch_size=batch_size)
  args = (config, {"data": devices, "fsdp": 1}, accumulate)
  if said is None:
    config_checks.check_mesh(*args)
    return
  with pytest.raises(UserError, match=said):
    config_checks.check_mesh(*args)


def test_class_weights_must_be_one_a_class():
  with pytest.raises(UserError, match="2 weights.*19 classes.*bicycle"):
    config_checks.check_classes(
        changed(loss__class_weights=(1.0, 2.0)), CITYSCAPES
    )
  config_checks.check_classes(changed(), CITYSCAPES)


@pytest.mark.parametrize("fields, said", [
    ({"pixels": 0, "epsilon": 1.0}, "no effect without private.pixels"),
    ({"epsilon": 0.0}, "needs a budget"),
    ({"rho": 1.0}, "one of them"),
    ({"groups": 5}, "must divide the 64 values"),
    ({"bits": 9}, "private: bits=9"),
    ({"groups": 4, "bits": 2}, "one of the two"),
    ({"setting": "home"}, "would need a release"),
    ({"data__resize": "none"}, "padding repeats pixels"),
    ({"predict__scheme": "blockwise"}, "released by its owner"),
])
def test_noise_that_would_not_hold_what_it_says_is_refused(fields, said):
  given = {"pixels": 4, "epsilon": 1.0} | fields
  own = ("pixels", "epsilon", "rho", "groups", "bits")
  with pytest.raises(UserError, match=said):
    changed(**{f"private__{name}" if name in own else name: value
               for name, value in given.items()})
