"""Requests that wait, and the one thread that runs them in batches."""

import asyncio
import collections
import dataclasses
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ppseg_jax.server.metrics import Metrics
from ppseg_jax.server.programs import Program, Programs
from ppseg_jax.server.refusal import Refused
from ppseg_jax.server.upload import Size

COMPILING = 4  # requests that may wait for the compiler at once
Gone = Callable[[], Awaitable[bool]]  # whether a client has hung up


@dataclasses.dataclass
class _Waiting:
  image: np.ndarray  # uint8 [H, W, 3]
  kind: str
  program: Program
  gone: Gone
  answer: asyncio.Future


class Batches:
  """Runs images on the device, those of one size together.

  While a batch runs others gather; nobody waits for a batch to fill. Sizes take
  turns. How many may wait is for the caller to bound, but for `compiling` ones:
  those that wait for a size to be compiled, at most COMPILING of them.
  """

  def __init__(self, programs: Programs, metrics: Metrics):
    self._programs, self._metrics = programs, metrics
    self._waiting: dict[Size, collections.deque[_Waiting]] = {}
    self._some = asyncio.Event()
    self._device = ThreadPoolExecutor(1, "device")
    self._compiler = ThreadPoolExecutor(1, "compiler")
    self._compiled: dict[Size, asyncio.Future] = {}
    self.compiling = 0

  async def answer(
      self, image: np.ndarray, kind: str, gone: Gone
  ) -> np.ndarray:
    """The answer to one image: compiled for, put in line, and run.

    Raises Refused where its size is not compiled for, ConnectionError where the
    client is gone before it reaches the device.
    """
    size = image.shape[:2]
    program = self._programs.find(size) or await self._compile(size, gone)
    item = _Waiting(image, kind, program, gone,
                    asyncio.get_running_loop().create_future())
    self._waiting.setdefault(size, collections.deque()).append(item)
    self._some.set()
    return await item.answer

  async def _compile(self, size: Size, gone: Gone) -> Program:
    """Once, however many ask for it; it goes on where they go away."""
    if await gone():
      raise ConnectionError
    if self.compiling >= COMPILING:
      raise Refused(503, "The server compiles for other sizes; ask again.", 5)
    if size not in self._compiled:
      future = asyncio.get_running_loop().run_in_executor(
          self._compiler, self._programs.compile, size
      )
      self._metrics.compilations.inc()
      future.add_done_callback(lambda _: self._compiled.pop(size, None))
      self._compiled[size] = future
    self.compiling += 1
    try:
      return await asyncio.shield(self._compiled[size])
    finally:
      self.compiling -= 1

  async def work(self) -> None:
    """Runs batches until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
      await self._some.wait()
      items = self._next()
      if not items:
        self._some.clear()
        continue
      try:
        for item in items:
          if await item.gone() and not item.answer.done():
            item.answer.set_exception(ConnectionError())
        items = [item for item in items if not item.answer.done()]
        if not items:
          continue
        answers = await loop.run_in_executor(
            self._device, self._programs.run, items[0].program,
            [item.image for item in items], {item.kind for item in items},
        )
      except Exception as error:  # theirs to report; the next may do better
        for item in items:
          if not item.answer.done():
            item.answer.set_exception(error)
        continue
      self._metrics.batch.observe(len(items))
      for row, item in enumerate(items):
        if not item.answer.done():
          item.answer.set_result(answers[item.kind][row])

  def _next(self) -> list[_Waiting]:
    """The next batch, without those whose client has gone; [] for none."""
    while self._waiting:
      size = next(iter(self._waiting))
      queue = self._waiting.pop(size)
      items, most = [], max(queue[0].program)
      while queue and len(items) < most:
        item = queue.popleft()
        if not item.answer.done():
          items.append(item)
      if queue:
        self._waiting[size] = queue
      if items:
        return items
    return []

  def close(self) -> None:
    self._device.shutdown()
    self._compiler.shutdown()
