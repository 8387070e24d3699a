"""The clients of an experiment, played by whoever trains or tests.

All keys come from the experiment's seed, so that it repeats; such keys protect
nothing from those who know the seed. Keys of an image's own are also a function
of what else decides its values, so that another run of the same seed, on other
images or other forms of them, has other keys. Files are not looked at: two
folders of one name and size share keys under one seed.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ppseg_jax import data
from ppseg_jax.data import encrypted
from ppseg_jax.encryption import (
    encrypt,
    get_scheme,
    image_keys,
    key_from_seed,
    noise,
    private,
    release,
)
from ppseg_jax.encryption.keys import CHOOSE, EVAL, LEFT_OUT, TRAIN, derive
from ppseg_jax.fields import UNSTORED

# Purposes of the keys derived from an experiment's seed.
INIT, ENCRYPT, DROPOUT, COLOUR, NOISE = range(5)
LEVEL = 0  # derived from an image's key: which level is shown

# Of a split that is tested on. Each has keys of its own: image 3 of one is not
# image 3 of another.
SPLITS = {"val": EVAL, "left_out": LEFT_OUT, "train": CHOOSE}


# Fields of `data` that decide what image `index` of epoch `epoch` is.
_DECIDING = (
    "name", "height", "width", "leave_out", "crop_height", "crop_width",
    "scale_min", "scale_max", "flip", "photometric",
)
# More of them, which count where they are not as in `fields.UNSTORED`: a config
# that lacks one has the keys of a config of that value.
_DECIDING_UNLESS = (
    "tfds_image", "tfds_label", "val_share", "resize", "more",
)


def _hash(text: str) -> int:
  """31 bits of SHA-256."""
  digest = hashlib.sha256(text.encode()).digest()
  return int.from_bytes(digest[:4], "big") >> 1  # an int32 holds it


@dataclasses.dataclass(frozen=True)
class Clients:
  """How the images of an experiment are encrypted, and under which keys.

  Attributes:
    scheme: name of it.
    block: its block size in pixels.
    plan: of the keys, one of `encryption.KEY_PLANS`.
    clients: number of clients a split, for the plan `client`.
    seed: of the experiment.
    images: a hash of what, besides index and epoch, decides an image's values.
    moved: the images come encrypted, their blocks moved and the labels along;
      images that come encrypted have the scheme `plain` here.
    levels: of what is shown, one drawn for each image by its key; '' is all of
      the scheme's form. None: that.
  """

  scheme: str
  block: int
  plan: str
  clients: int
  seed: int
  images: int = 0
  moved: bool = False
  levels: tuple[str, ...] = ()

  def keys(self, batch: dict, split: int) -> jax.Array:
    """The keys of a batch by its `index` and `epoch`, typed [B]."""
    root = derive(key_from_seed(self.seed), ENCRYPT)
    if self.plan in ("image", "epoch"):
      root = derive(root, self.images, *self._cipher())
    return image_keys(
        self.plan, root, batch["index"], batch["epoch"], split, self.clients
    )

  def _cipher(self) -> tuple[int, int]:
    """The scheme and its block, as numbers: a key serves one of them."""
    name = "_or_".join([get_scheme(self.scheme).name, *self.levels])
    return _hash(name), self.block

  def encrypt(self, batch: dict, split: int) -> jax.Array:
    """The batch's `image`, uint8 [B, H, W, 3], encrypted each under its key."""
    keys = self.keys(batch, split)
    images = self._shown(keys, batch["image"])
    return encrypt(self.scheme, keys, images, self.block)

  def _shown(self, keys: jax.Array, images: jax.Array) -> jax.Array:
    """The images at the level that each one's key draws."""
    if not self.levels:
      return images
    drawn = jax.vmap(lambda key: jax.random.key_data(derive(key, LEVEL))[0])
    chosen = drawn(keys) % len(self.levels)
    for number, level in enumerate(self.levels):
      if level:
        shown = release(self.scheme, level, images, self.block)
        here = (chosen == number)[:, None, None, None]
        images = jnp.where(here, shown, images)
    return images


def of_training(config: ml_collections.ConfigDict) -> Clients:
  """Those whose images a config trains on."""
  return _arriving(config.data.name, Clients(
      config.scheme, config.block, config.key_plan, config.clients, config.seed,
      _images(config.data, config), levels=tuple(config.levels),
  ))


def _arriving(name: str, clients: Clients) -> Clients:
  """The same for images of that source, which may come encrypted."""
  if name != encrypted.NAME:
    return clients
  moved = encrypted.moves_blocks(clients.scheme)
  return dataclasses.replace(clients, scheme="plain", moved=moved)


def _images(
    source: ml_collections.ConfigDict, config: ml_collections.ConfigDict
) -> int:
  """The hash `Clients.images` of a `data` and of the noise in its images."""
  values = [source[name] for name in _DECIDING]
  values += [
      [name, source[name]] for name in _DECIDING_UNLESS
      if name in source and source[name] != UNSTORED[f"data.{name}"]
  ]
  if config.private.pixels:
    values.append([config.block, *(
        item for item in sorted(config.private.items())
        if item != ("bits", UNSTORED["private.bits"])
    )])
  return _hash(json.dumps(values))


def releases(
    config: ml_collections.ConfigDict, source: ml_collections.ConfigDict,
    split: int,
) -> Callable[[int, np.ndarray], np.ndarray] | None:
  """(index, image) -> its release by `config.private`; None where it has none.

  The noise is of a key of each image's own, which encrypts nothing. It is that
  of the seed, and hides nothing from those who know it.

  Args:
    config: of the experiment.
    source: the `data` that the images are of.
    split: what for, as TRAIN.
  """
  budget = budget_of(config.private)
  if budget is None:
    return None
  seed = key_from_seed(config.seed)
  root = noise.derive(seed, NOISE, _images(source, config))

  def release_one(index: int, image: np.ndarray) -> np.ndarray:
    key = noise.derive(root, split, index)
    return private.release(
        image, key, budget, config.block, config.private.groups,
        config.private.bits,
    )

  return release_one


def budget_of(section: ml_collections.ConfigDict) -> private.Budget | None:
  """The budget of an image of a config's `private`; None where it has none."""
  if not section.pixels:
    return None
  spent = {name: Fraction(str(section[name])) for name in ("epsilon", "rho")
           if section[name]}
  return private.Budget(section.pixels, **spent)


def of_test(config: ml_collections.ConfigDict) -> Clients:
  """Those whose images a config tests on."""
  tested = data.of_test(config)
  return _arriving(tested.name, dataclasses.replace(
      of_training(config), scheme=config.eval.scheme,
      plan=config.eval.key_plan, images=_images(tested, config), moved=False,
      levels=(),
  ))


def of_refining(config: ml_collections.ConfigDict) -> Clients:
  """Those of `of_test` who fit a refinement at home, on augmented images.

  Keys of an image's own are then fresh at every epoch.
  """
  clients = of_test(config)
  if clients.plan == "image":
    return dataclasses.replace(clients, plan="epoch")
  return clients


def shared_key(seed: int) -> jax.Array:
  """The key of every image under the plan `shared`, typed []."""
  zero = {"index": jnp.zeros(1, jnp.int32), "epoch": jnp.zeros(1, jnp.int32)}
  return Clients("plain", 1, "shared", 1, seed).keys(zero, TRAIN)[0]
