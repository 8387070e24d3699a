"""What an attack knows, what it may spend, and what it returns.

An attack is a function of these that declares what it must be told:

    @declare(needs=("others",))
    def attack(knowledge: Knowledge, seed: int, budget: Budget) -> Outcome:
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from ppseg_jax.encryption import (
    BlockScramble,
    PixelShuffle,
    Scheme,
    ops_of,
)
from ppseg_jax.encryption.blocks import check_size
from ppseg_jax.encryption.levels import Level
from ppseg_jax.encryption.mix import Mix
from ppseg_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Knowledge:
  """Everything an attack may use; fields are None where it is not given.

  The scheme and the block size are always known: nothing here relies on
  hiding how images are encrypted. Keys never are.

  Attributes:
    ciphertexts: uint8 [B, H, W, 3], the images to be opened.
    scheme: they were encrypted with.
    block: its block size in pixels.
    pair: (plain, cipher), uint8 [H, W, 3] each: one image of which both are
      known.
    others: uint8 [K, H, W, 3], plain images of the same kind, of other places;
      an attacker encrypts them as often as it likes.
    other_labels: uint8 [K, H, W], their labels (train ids).
    labels: uint8 [B, H, W], what the cloud itself predicted for the
      ciphertexts, in places or, with layout privacy, block by block without.
    classes: number of classes of those labels.
    views: uint8 [B, V, h, w, 3], further ciphertexts of windows of each image,
      each under a key of its own; where in the image they lie is not known.
    corners: int [B, V, 2], where: (row, column) of their first pixels.
    forms: uint8 [B, E, H, W, 3], further ciphertexts of each image, scaled and
      cut in ways that are not known, all under the key of the image itself.
    noise: standard deviation of the numbers that the images carry, in grey
      levels, where they are releases with differential privacy; 0: they are
      not.
    groups: of sorted values, whose means those numbers are.
  """

  ciphertexts: np.ndarray
  scheme: Scheme
  block: int
  pair: tuple[np.ndarray, np.ndarray] | None = None
  others: np.ndarray | None = None
  other_labels: np.ndarray | None = None
  labels: np.ndarray | None = None
  classes: int = 0
  views: np.ndarray | None = None
  corners: np.ndarray | None = None
  forms: np.ndarray | None = None
  noise: float = 0.0
  groups: int = 0

  def __post_init__(self):
    shape = self.ciphertexts.shape
    if len(shape) != 4 or shape[3] != 3 or self.ciphertexts.dtype != np.uint8:
      raise UserError(
          "ciphertexts must be uint8 [B, H, W, 3], not"
          f" {self.ciphertexts.dtype} of shape {shape}."
      )
    check_size(shape, self.block)
    if self.views is not None:
      check_size(self.views.shape, self.block)
    if self.others is not None and self.others.shape[1:] != shape[1:]:
      raise UserError(
          f"other images of shape {self.others.shape[1:]} do not fit"
          f" ciphertexts of shape {shape[1:]}; bring them to one size."
      )

  @property
  def grid(self) -> tuple[int, int]:
    """Blocks (rows, columns) of an image."""
    _, height, width, _ = self.ciphertexts.shape
    return height // self.block, width // self.block


@dataclasses.dataclass(frozen=True)
class Budget:
  """What an attack may spend.

  Counts and no seconds, so that the same seed gives the same reconstruction on
  every machine; the seconds it took are reported.

  Attributes:
    steps: of training a network, `networks.BATCH` images each.
    unet_steps: of training the U-Net, at most.
    rounds: of a local search, at most.
    tries: keys that brute force tries.
  """

  steps: int = 200
  unet_steps: int = 1000
  rounds: int = 12
  tries: int = 256

  def __post_init__(self):
    for field in dataclasses.fields(self):
      if getattr(self, field.name) < 1:
        raise UserError(
            f"budget.{field.name}={getattr(self, field.name)} must be at"
            " least 1."
        )


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What an attack found.

  Attributes:
    images: uint8 [B, H, W, 3], the reconstructions.
    notes: figures beside the scores, by name.
  """

  images: np.ndarray
  notes: dict[str, float] = dataclasses.field(default_factory=dict)


# What an attack is told only where it declares it.
_GIVEN = {x.name for x in dataclasses.fields(Knowledge) if x.default is None}


@dataclasses.dataclass(frozen=True)
class Attack:
  """A function that reconstructs images, and what it must be told.

  Called as that function is. It is handed what it declares, and nothing else
  of what the caller knows, so that what it declares is what it used; squares of
  blocks that a level takes together are its blocks.

  Attributes:
    name: of its file.
    run: the function; raises UserError for schemes that it does not open.
    needs: fields of `Knowledge` without which it cannot begin.
    uses: fields that it does better with.
    key_plans: under which to try it; `shared` too where that changes what a
      field it needs is worth.
  """

  name: str
  run: Callable[[Knowledge, int, Budget], Outcome]
  needs: tuple[str, ...] = ()
  uses: tuple[str, ...] = ()
  key_plans: tuple[str, ...] = ("image",)

  def __call__(
      self, knowledge: Knowledge, seed: int, budget: Budget
  ) -> Outcome:
    """Raises UserError where something it needs is not given."""
    for field in self.needs:
      if getattr(knowledge, field) is None:
        raise UserError(
            f"attack '{self.name}' needs Knowledge.{field}, which is not given."
        )
    hidden = _GIVEN.difference(self.needs, self.uses)
    told = dataclasses.replace(knowledge, **dict.fromkeys(hidden))
    return self.run(whole_squares(told), seed, budget)


def declare(
    needs: tuple[str, ...] = (),
    uses: tuple[str, ...] = (),
    key_plans: tuple[str, ...] = ("image",),
) -> Callable[[Callable], Attack]:
  """Makes an `Attack`, named after its file, of the function that follows."""
  unknown = {*needs, *uses} - _GIVEN
  if unknown:
    raise TypeError(f"Knowledge has no optional field {', '.join(unknown)}")

  def wrap(run: Callable) -> Attack:
    name = run.__module__.rpartition(".")[2]
    return Attack(name, run, needs, uses, key_plans)

  return wrap


def refuse(attack: str, scheme: Scheme, why: str) -> UserError:
  return UserError(
      f"attack '{attack}' does not apply to scheme '{scheme.name}': {why}"
  )


def scrambles(scheme: Scheme) -> bool:
  """Whether the scheme moves blocks, all of them.

  Where it leaves a share of them in place, attacks but `jigsaw` take all as in
  place.
  """
  return any(op.fraction == 1 for op in ops_of(scheme, BlockScramble))


def mixes_channels(scheme: Scheme) -> bool:
  """Whether values of all channels are shuffled together."""
  return any(op.unit == "value" for op in ops_of(scheme, PixelShuffle))


def level_of(scheme: Scheme) -> Level | None:
  """The level that the scheme leaves of an image; None for all of it."""
  return next(iter(ops_of(scheme, Level)), None)


def mix_of(scheme: Scheme) -> Mix | None:
  """How the scheme mixes parts of blocks at their places, if that is all."""
  match scheme.ops:
    case (Mix() as mix,):
      return mix
  return None


def whole_squares(knowledge: Knowledge) -> Knowledge:
  """The same with the squares of blocks that a level takes together as blocks.

  Such a ciphertext has in each square what one of larger blocks, at the level
  without the squares, has in a block: nothing is known of the order within.
  """
  level = level_of(knowledge.scheme)
  if level is None or level.merge == 1:
    return knowledge
  plain = dataclasses.replace(level, merge=1)
  ops = tuple(
      plain if op == level else op for op in knowledge.scheme.ops
  )
  scheme = dataclasses.replace(knowledge.scheme, ops=ops)
  return dataclasses.replace(
      knowledge, scheme=scheme, block=knowledge.block * level.merge
  )
