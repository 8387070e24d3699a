"""Requests that wait, and the one thread that runs them in batches."""

import asyncio
import collections
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ppseg_jax.server.metrics import Metrics
from ppseg_jax.server.programs import Programs
from ppseg_jax.server.upload import Size


@dataclasses.dataclass
class _Waiting:
  image: np.ndarray  # uint8 [H, W, 3]
  kind: str
  answer: asyncio.Future


class Batches:
  """Runs images on the device, those of one size together.

  While a batch runs others gather; nobody waits for a batch to fill. Sizes take
  turns. How many may wait is for the caller to bound.
  """

  def __init__(self, programs: Programs, metrics: Metrics):
    self._programs, self._metrics = programs, metrics
    self._waiting: dict[Size, collections.deque[_Waiting]] = {}
    self._some = asyncio.Event()
    self._device = ThreadPoolExecutor(1, "device")
    self._compiler = ThreadPoolExecutor(1, "compiler")
    self._compiling: dict[Size, asyncio.Future] = {}

  async def answer(self, image: np.ndarray, kind: str) -> np.ndarray:
    """The answer to one image: compiled for, put in line, and run.

    Raises Refused where no further size is compiled for, or the model cannot
    run the image's.
    """
    size = image.shape[:2]
    if not self._programs.ready_for(size):
      await self._compiled(size)
    item = _Waiting(image, kind, asyncio.get_running_loop().create_future())
    self._waiting.setdefault(size, collections.deque()).append(item)
    self._some.set()
    return await item.answer

  async def _compiled(self, size: Size) -> None:
    """Once, however many ask for it; it goes on where they go away."""
    if size not in self._compiling:
      future = asyncio.get_running_loop().run_in_executor(
          self._compiler, self._programs.compile, size
      )
      future.add_done_callback(lambda _: self._compiling.pop(size, None))
      self._compiling[size] = future
    await asyncio.shield(self._compiling[size])

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
        answers = await loop.run_in_executor(
            self._device, self._programs.run,
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
      items, most = [], self._programs.most_at_once(size)
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
