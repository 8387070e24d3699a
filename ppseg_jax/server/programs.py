"""Compiled programs by size and batch: made once, counted, bounded."""

import logging
import threading
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.errors import UserError
from ppseg_jax.server.refusal import Refused
from ppseg_jax.server.served import Served, make_answer
from ppseg_jax.server.upload import Size

Program = dict[int, jax.stages.Compiled]  # of one size, by batch
_REFUSED = 1024  # sizes that the model cannot run, of which it is remembered
_log = logging.getLogger(__name__)


class Programs:
  """What the device can run.

  Sizes that are named ahead are compiled for every batch size; any other one
  up to the largest when it is asked for, for a batch of 1. Where there are more
  than may be, the one that was not asked for the longest goes.

  Args:
    served: the model.
    sizes: (height, width) of images to be ready for.
    batches: how many images are run together, in ascending order, 1 first.
    largest: (height, width) of no image is above these.
    most: sizes that are kept compiled, those of `sizes` included.

  Raises:
    UserError: where these do not fit the model or each other.
  """

  def __init__(
      self, served: Served, sizes: Iterable[Size], batches: tuple[int, ...],
      largest: Size, most: int,
  ):
    self.served, self.largest, self.most = served, largest, most
    self.sizes, self.batches = tuple(dict.fromkeys(sizes)), batches
    self._made: dict[Size, Program] = {}  # the last asked for last
    self._refused: dict[Size, Refused] = {}  # by the model
    self._lock = threading.Lock()  # of these two
    self._compiling = threading.Lock()
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
        self._keep(size, made)

  def __len__(self) -> int:
    """How many sizes are compiled."""
    return len(self._made)

  def check(self, size: Size) -> None:
    """Raises Refused for a size that is not taken."""
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
      raise Refused(refused.status, refused.sentence)
    if size not in self.sizes and len(self.sizes) >= self.most:
      known = ", ".join(f"{h}x{w}" for h, w in self.sizes[:8])
      raise Refused(
          503, f"The server is not compiled for {height}x{width} and compiles"
          f" for no further size; send {known}."
      )

  def find(self, size: Size) -> Program | None:
    """What runs images of the size, which counts as asked for; None: nothing.

    It stays good for whoever holds it when it makes room for another size.
    """
    with self._lock:
      if program := self._made.pop(size, None):
        self._made[size] = program
      return program

  def compile(self, size: Size) -> Program:
    """For a batch of 1, if it is not; Refused where the model cannot run it.

    One after another, whoever asks. What failed once is not tried again.
    """
    with self._compiling:
      self.check(size)
      if program := self.find(size):
        return program
      try:
        program = {1: self._compile(size, 1)}
      except UserError as error:
        refused = Refused(422, str(error))
      except Exception as error:  # of the compiler, as RESOURCE_EXHAUSTED
        _log.error("compiling for %dx%d failed: %s", *size,
                   type(error).__name__)
        refused = Refused(
            422, "The server failed to compile for an image of"
            f" {size[0]}x{size[1]} (height x width) and takes none."
        )
      else:
        self._keep(size, program)
        return program
      self._refused[size] = refused
      if len(self._refused) > _REFUSED:
        del self._refused[next(iter(self._refused))]
      raise refused

  def _keep(self, size: Size, program: Program) -> None:
    with self._lock:
      self._made[size] = program
      others = [other for other in self._made if other not in self.sizes]
      for other in others[: max(0, len(self._made) - self.most)]:
        del self._made[other]

  def run(
      self, programs: Program, images: list[np.ndarray], kinds: set[str]
  ) -> dict[str, np.ndarray]:
    """Answers to images of the size that was compiled, by kind, [B, ...].

    The batch is filled up to the next one that is compiled.
    """
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
    # Of a function of its own, so that jax keeps none that went.
    answer = jax.jit(make_answer(self.served))
    return answer.lower(self.served.variables, shape).compile()
