"""Several ciphertexts of each picture, made as careless clients would.

Either views of a scene, each under a key of its own, or forms of a picture, all
under its key. All is drawn from the config's seed.
"""

from collections.abc import Callable

import jax
import ml_collections
import numpy as np

from ppseg_jax.attacks.parts.knowledge import Attack
from ppseg_jax.data.augment import make_augment
from ppseg_jax.encryption import (
    Scheme,
    encrypt,
    image_keys,
    key_from_seed,
    noise,
    private,
)
from ppseg_jax.encryption.keys import EVAL
from ppseg_jax.encryption.schemes import squares_of
from ppseg_jax.errors import UserError
from ppseg_jax.runs.keys import budget_of

# Of keys and random numbers: no image is in this epoch, no key for noise
# encrypts.
_FIRST, _NOISE, _PLACES, _FORMS = range(4)
_SCALES = 0.75, 1.5  # of forms


def unit_of(scheme: Scheme, block: int) -> int:
  """The side in pixels of what a view must hold whole."""
  return block * squares_of(scheme)


def check(
    config: ml_collections.ConfigDict, attack: Attack, scheme: Scheme
) -> None:
  """Raises UserError where there are not so many windows of an image."""
  unit, count = unit_of(scheme, config.block), config.views.count
  most = (unit + 1) ** 2
  if "corners" in attack.needs:
    most = 2 * (unit - 1)
  if "views" in attack.needs and count - 1 > most:
    raise UserError(
        f"views.count={count} must be at most {most + 1} for {attack.name}:"
        f" there are no more windows, {unit} pixels smaller than the image,"
        " that it takes."
    )


def let_out(
    config: ml_collections.ConfigDict, images: np.ndarray, index: np.ndarray,
    number: int = 0,
) -> np.ndarray:
  """Images uint8 [B, h, w, 3] as `config.private` releases view `number`."""
  budget = budget_of(config.private)
  if budget is None:
    return images
  seed = key_from_seed(config.seed)
  return np.stack([
      private.release(
          np.ascontiguousarray(image),
          noise.derive(seed, _NOISE, int(i), number), budget, config.block,
          config.private.groups, config.private.bits,
      ) for image, i in zip(images, index, strict=True)
  ])


def noise_of(config: ml_collections.ConfigDict) -> tuple[float, int]:
  """(standard deviation in grey levels, groups) of `config.private`.

  Of a noisy histogram 0 groups, that of all its values.
  """
  budget, groups, bits = (budget_of(config.private), config.private.groups,
                          config.private.bits)
  if budget is None:
    return 0.0, 0
  deviation = budget.of_mean(config.block, groups, bits)
  return deviation, 0 if bits else groups


def told(
    config: ml_collections.ConfigDict, attack: Attack, scheme: Scheme,
    plain: np.ndarray, index: np.ndarray,
) -> dict[str, np.ndarray]:
  """The fields of `Knowledge` that the attack needs and that are made here.

  Args:
    config: of configs/attacks.py.
    attack: which is told no more than it asks for.
    scheme: of the ciphertexts.
    plain: uint8 [B, H, W, 3].
    index: of the images in their split, int [B].
  """
  given = {}
  if "views" in attack.needs:
    views, corners = make_views(
        config, scheme, plain, index, "corners" in attack.needs
    )
    given["views"] = views
    if config.views.known or "corners" in attack.needs:
      given["corners"] = corners
  if "forms" in attack.needs:
    given["forms"] = make_forms(config, scheme, plain, index)
  return given


def make_views(
    config: ml_collections.ConfigDict, scheme: Scheme, plain: np.ndarray,
    index: np.ndarray, straight: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
  """(ciphertexts uint8 [B, V, h, w, 3], corners int [B, V, 2]) of windows.

  Those of an image are different from each other, and each is under a key of
  its own. Straight ones are shifted along one side only, in turns across and
  down.
  """
  unit, count = unit_of(scheme, config.block), config.views.count - 1
  height, width = (side - unit for side in plain.shape[1:3])
  ways = np.array([
      (y, x) for y in range(unit + 1) for x in range(unit + 1)
      if not straight or (min(y, x) == 0 and 0 < max(y, x) < unit)
  ])
  corners = np.stack([
      _drawn(np.random.default_rng([config.seed, _PLACES, i]), ways, straight)
      [:count] for i in index.tolist()
  ])
  cipher = _encrypt(config, scheme, "epoch")
  views = np.empty((len(plain), count, height, width, 3), np.uint8)
  for number in range(count):
    windows = np.stack([
        image[top : top + height, left : left + width]
        for image, (top, left) in zip(plain, corners[:, number], strict=True)
    ])
    windows = let_out(config, windows, index, 1 + number)
    views[:, number] = cipher(windows, index, _FIRST + 1 + number)
  return views, corners


def _drawn(
    rng: np.random.Generator, ways: np.ndarray, straight: bool
) -> np.ndarray:
  """The ways in an order by chance; straight ones across and down in turns."""
  ways = rng.permutation(ways)
  if not straight:
    return ways
  across, down = ways[ways[:, 0] == 0], ways[ways[:, 1] == 0]
  return np.stack([across, down], 1).reshape(-1, 2)


def make_forms(
    config: ml_collections.ConfigDict, scheme: Scheme, plain: np.ndarray,
    index: np.ndarray,
) -> np.ndarray:
  """Ciphertexts of scaled, cut and mirrored images, uint8 [B, E, H, W, 3].

  All of an image are under the key that the suite encrypts the image with.
  """
  height, width = plain.shape[1:3]
  augment = make_augment(ml_collections.ConfigDict({
      "scale_min": _SCALES[0], "scale_max": _SCALES[1], "crop_height": height,
      "crop_width": width, "flip": True,
  }))
  cipher = _encrypt(config, scheme, "image")
  labels = np.zeros((height, width), np.uint8)
  forms = np.empty((len(plain), config.views.forms, height, width, 3), np.uint8)
  for number in range(config.views.forms):
    changed = np.stack([
        augment(np.random.default_rng([config.seed, _FORMS, i, number]),
                image, labels)["image"]
        for image, i in zip(plain, index.tolist(), strict=True)
    ])
    changed = let_out(config, changed, index, 1 + number)
    forms[:, number] = cipher(changed, index, 0)
  return forms


def _encrypt(
    config: ml_collections.ConfigDict, scheme: Scheme, plan: str
) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
  """(images, index, epoch) -> ciphertexts under keys of that plan."""
  root = key_from_seed(config.seed)

  @jax.jit
  def encrypted(images, index, epoch):
    keys = image_keys(plan, root, index, epoch, EVAL, 1)
    return encrypt(scheme, keys, images, config.block)

  def cipher(images, index, epoch):
    return np.asarray(encrypted(images, index, index * 0 + epoch))

  return cipher
