"""Compiled programs by size and batch: made once, counted, bounded."""

import threading
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.errors import UserError
from ppseg_jax.server.refusal import Refused
from ppseg_jax.server.served import Served, make_answer
from ppseg_jax.server.upload import Size


class Programs:
  """What the device can run.

  Sizes that are named ahead are compiled for every batch size; any other one
  up to the largest when it is first asked for, for a batch of 1, until there
  are as many as may be.

  Args:
    served: the model.
    sizes: (height, width) of images to be ready for.
    batches: how many images are run together, in ascending order, 1 first.
    largest: (height, width) of no image is above these.
    most: sizes that may ever be compiled, those of `sizes` included.

  Raises:
    UserError: where these do not fit the model or each other.
  """

  def __init__(
      self, served: Served, sizes: Iterable[Size], batches: tuple[int, ...],
      largest: Size, most: int,
  ):
    self.served, self.largest, self.most = served, largest, most
    self.sizes, self.batches = tuple(dict.fromkeys(sizes)), batches
    self._answer = jax.jit(make_answer(served))
    self._made: dict[Size, dict[int, jax.stages.Compiled]] = {}
    self._refused: dict[Size, Refused] = {}  # by the model; at most `most`
    self._lock = threading.Lock()
    if len(self.sizes) > most:
      raise UserError(
          f"--sizes names {len(self.sizes)} sizes, but --max-sizes={most}."
      )
    for size in self.sizes:
      try:
        self.check(size)
      except Refused as refused:
        raise UserError(f"--sizes={size[0]}x{size[1]}: {refused}") from None

  def compile_ahead(
      self, stopped: Callable[[], bool] = lambda: False
  ) -> None:
    """All of `sizes`, or until it is stopped.

    Raises UserError where the model cannot run one.
    """
    for size in self.sizes:
      made = {b: self._compile(size, b) for b in self.batches if not stopped()}
      if len(made) == len(self.batches):
        self._made[size] = made

  def __len__(self) -> int:
    """How many sizes have been compiled."""
    return len(self._made)

  def check(self, size: Size) -> None:
    """Raises Refused for a size that is not taken, or not any more."""
    height, width = size
    most_high, most_wide = self.largest
    if height > most_high or width > most_wide:
      raise Refused(
          413, f"The image is {height}x{width} (height x width), and the"
          f" largest taken is {most_high}x{most_wide}."
      )
    if height % self.served.unit or width % self.served.unit:
      raise Refused(
          422, f"The image is {height}x{width} (height x width), which is not"
          f" whole in blocks of {self.served.unit}; pad it before it is"
          " encrypted."
      )
    if refused := self._refused.get(size):
      raise refused
    if size not in self._made and size not in self.sizes and (
        len(self._made.keys() | self._refused.keys()) >= self.most
    ):
      known = ", ".join(f"{h}x{w}" for h, w in [*self._made][:8])
      raise Refused(
          503, f"The server is not compiled for {height}x{width} and compiles"
          f" for no further size; send {known}."
      )

  def ready_for(self, size: Size) -> bool:
    return size in self._made

  def compile(self, size: Size) -> None:
    """For a batch of 1, if it is not; Refused where the model cannot run it."""
    with self._lock:
      self.check(size)
      if size in self._made:
        return
      try:
        self._made[size] = {1: self._compile(size, 1)}
      except UserError as error:
        self._refused[size] = Refused(422, str(error))
        raise self._refused[size] from None

  def most_at_once(self, size: Size) -> int:
    return max(self._made[size])

  def run(
      self, images: list[np.ndarray], kinds: set[str]
  ) -> dict[str, np.ndarray]:
    """Answers to images of one size that is compiled, by kind, [B, ...].

    The batch is filled up to the next one that is compiled.
    """
    programs = self._made[images[0].shape[:2]]
    batch = min(b for b in programs if b >= len(images))
    rows = np.zeros((batch, *images[0].shape), np.uint8)
    for row, image in zip(rows, images, strict=False):
      row[:] = image
    answers = programs[batch](self.served.variables, rows)
    return {
        kind: np.asarray(answers[kind])[: len(images)] for kind in kinds
    }

  def _compile(self, size: Size, batch: int) -> jax.stages.Compiled:
    shape = jax.ShapeDtypeStruct((batch, *size, 3), jnp.uint8)
    return self._answer.lower(self.served.variables, shape).compile()
