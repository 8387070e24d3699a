"""Releases with differential privacy, as a client makes them of its pictures.

What is encrypted is then a release (`encryption.private`), drawn once for each
picture under a fresh key of its own, which is forgotten.
"""

import dataclasses

import numpy as np

from ppseg_jax.encryption import Scheme, at_level, fresh_keys, private
from ppseg_jax.errors import UserError

_PICTURES = (2, 10, 100)  # of one scene: what they come to is said of these


@dataclasses.dataclass(frozen=True)
class Noise:
  """How each picture is released.

  Attributes:
    budget: of one picture.
    groups: of the sorted values of a channel of a block, whose noisy means are
      left.
    bits: upper ones of the values of a noisy histogram in their place; 0: none.
    crop: cut pictures to whole blocks; otherwise those that need it fail.
  """

  budget: private.Budget
  groups: int = 1
  bits: int = 0
  crop: bool = False

  @property
  def level(self) -> str:
    """Of the images that come out."""
    return f"b{self.bits}" if self.bits else f"q{self.groups}"

  @property
  def said(self) -> str:
    """What a ciphertext's header says of it, as `epsilon 1/2, 16 pixels`."""
    name = "rho" if self.budget.epsilon is None else "epsilon"
    return f"{name} {getattr(self.budget, name)}, {self.budget.pixels} pixels"

  def scheme(self, scheme: Scheme) -> Scheme:
    """What releases are encrypted by; UserError for schemes without channels.
    """
    found = at_level(scheme, self.level)
    if "value" in {op.unit for op in found.ops if hasattr(op, "unit")}:
      raise UserError(
          f"scheme '{scheme.name}' mixes channels, which a release keeps apart;"
          " use blockwise."
      )
    return found

  def cut(self, image: np.ndarray, block: int) -> np.ndarray:
    """The image [H, W, C] in whole blocks, without its last rows and columns.

    Raises UserError where `crop` does not allow that, or nothing is left.
    """
    height, width = (side - side % block for side in image.shape[:2])
    if image.shape[:2] == (height, width):
      return image
    size = f"its size {image.shape[1]}x{image.shape[0]}"
    if not height or not width:
      raise UserError(f"{size} is less than one block of {block}.")
    if not self.crop:
      raise UserError(
          f"{size} is not a multiple of the block size {block}, and padding"
          " would repeat pixels, each of which counts; --crop cuts its last"
          " rows and columns off, or choose another --block."
      )
    return image[:height, :width]

  def release(self, image: np.ndarray, block: int) -> np.ndarray:
    """uint8 [H, W, C] -> the same shape; its noise is of a key of its own."""
    return private.release(
        np.ascontiguousarray(image), fresh_keys(1)[0], self.budget, block,
        self.groups, self.bits,
    )

  def says(self) -> str:
    """What is guaranteed, in words."""
    one = self.budget.composed(1)[0]
    more = "; ".join(f"of {count}: {self.budget.composed(count)[0]}"
                     for count in _PICTURES)
    what = "mean" if self.groups == 1 else f"means of {self.groups} groups"
    if self.bits:
      what = f"histogram of the upper {self.bits} bits"
    return (
        f"of each channel of each block the noisy {what} of its values, with"
        f" differential privacy: of one picture {one}, for pictures that differ"
        f" in at most {self.budget.pixels} pixels, in any way. Pictures that"
        f" show the same add up: {more}. What covers more pixels, and the"
        " picture's size, it protects less or not at all."
    )
