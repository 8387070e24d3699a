"""The server library, bounded against slow clients, and how a server ends."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ppseg_jax.errors import UserError
from ppseg_jax.server.app import Cloud, make_app, turned_down, with_headers
from ppseg_jax.server.refusal import Refused

_HEAD_BYTES = 16 * 1024  # of a request's line and headers together
_BACKLOG = 512  # connections that the system holds for us
_PATIENCE = 60  # seconds


class Protocol(H11Protocol):
  """HTTP/1.1 to a client that must send and read within `_PATIENCE`.

  The time counts from the connection's beginning or the last answer to the
  last byte of the next one, but for what the server itself takes.
  """

  _timer = None
  _answering = False  # that an answer was begun when the time was up

  def connection_made(self, transport: asyncio.Transport) -> None:
    super().connection_made(transport)
    # The library's own answer to this is not ours.
    most, self.limit_concurrency = self.limit_concurrency, None
    if len(self.connections) > most:
      self.app = with_headers(_full)
    self._arm()

  def on_response_complete(self) -> None:
    self._answering = False
    self._arm()
    super().on_response_complete()

  def connection_lost(self, exc: Exception | None) -> None:
    self._timer.cancel()
    super().connection_lost(exc)

  def _arm(self) -> None:
    if self._timer:
      self._timer.cancel()
    self._timer = self.loop.call_later(_PATIENCE, self._late)

  def _late(self) -> None:
    cycle = self.cycle
    if cycle is None or cycle.more_body or cycle.response_complete:
      self.transport.abort()  # it does not send
    elif not cycle.response_started:
      self._arm()  # it waits for us
    elif not self._answering:
      self._answering = True
      self._arm()
    else:
      self.transport.abort()  # it does not read


async def _full(scope, receive, send) -> None:
  """The application of a connection that is one too many."""
  response = turned_down(
      Refused(503, "The server has too many connections; ask again.", 2)
  )
  response.headers["Connection"] = "close"
  await response(scope, receive, send)


class _Server(uvicorn.Server):
  """Leaves signals to `serve`."""

  @contextlib.contextmanager
  def capture_signals(self):
    yield


def bind(host: str, port: int) -> socket.socket:
  """A socket that listens; UserError where there is none to be had."""
  try:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)
  except (OSError, OverflowError) as error:
    why = getattr(error, "strerror", None) or error
    raise UserError(
        f"--host={host} --port={port} cannot be listened on ({why}); give"
        " another."
    ) from None


async def serve(
    cloud: Cloud, listening: socket.socket, say: Callable[[str], None],
    stop: asyncio.Event | None = None,
) -> None:
  """Serves until SIGTERM, SIGINT or `stop`.

  Listens at once, and is ready when the sizes ahead are compiled. Asked to
  stop it turns down further requests, finishes those it has, and returns.

  Raises UserError where the model cannot run a size of these.
  """
  stop = stop or asyncio.Event()
  loop = asyncio.get_running_loop()
  server = _Server(uvicorn.Config(
      with_headers(make_app(cloud)), http=Protocol, ws="none", lifespan="on",
      log_config=None, log_level="critical", access_log=False,
      server_header=False, proxy_headers=False, timeout_keep_alive=10,
      timeout_graceful_shutdown=_PATIENCE, backlog=_BACKLOG,
      # Connections: twice those in work, and some that only ask how it is.
      limit_concurrency=2 * cloud.queue + 256,
      h11_max_incomplete_event_size=_HEAD_BYTES,
  ))
  with _signals(loop, stop):
    running = asyncio.create_task(server.serve([listening]))
    stopped = asyncio.create_task(stop.wait())
    compiled = loop.run_in_executor(
        None, cloud.programs.compile_ahead, stop.is_set
    )
    try:
      await asyncio.wait(
          [running, stopped, compiled], return_when=asyncio.FIRST_COMPLETED
      )
      if compiled.done() and not stop.is_set():
        compiled.result()  # raises what went wrong
        cloud.ready = True
        say("ready")
        await asyncio.wait(
            [running, stopped], return_when=asyncio.FIRST_COMPLETED
        )
      cloud.stopping = True
      while cloud.in_work:
        await asyncio.sleep(0.05)
    finally:
      stopped.cancel()
      server.should_exit = True
      await running


@contextlib.contextmanager
def _signals(
    loop: asyncio.AbstractEventLoop, stop: asyncio.Event
) -> Iterator[None]:
  """SIGTERM and SIGINT set `stop`, where this is the main thread."""
  names = (signal.SIGTERM, signal.SIGINT)
  before = {name: signal.getsignal(name) for name in names}
  try:
    for name in names:
      loop.add_signal_handler(name, stop.set)
  except (RuntimeError, ValueError, NotImplementedError):
    yield  # another thread, or a system without them
    return
  try:
    yield
  finally:
    for name, handler in before.items():
      loop.remove_signal_handler(name)
      signal.signal(name, handler)
