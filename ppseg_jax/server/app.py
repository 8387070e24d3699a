"""The routes: what is asked over HTTP, and what is answered or turned down."""

import asyncio
import contextlib
import dataclasses
import io
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ppseg_jax import pictures
from ppseg_jax.encryption import compact
from ppseg_jax.server import openapi, upload
from ppseg_jax.server.batches import Batches
from ppseg_jax.server.metrics import Metrics
from ppseg_jax.server.programs import Programs
from ppseg_jax.server.refusal import Refused
from ppseg_jax.server.served import LABELS, PNG, Served

PAGE = Path(__file__).parent / "page"
_log = logging.getLogger(__name__)

# On every answer. Scripts of the page may only be its own, and talk to nobody
# but this server.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'"
    " 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self'"
    " blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclasses.dataclass
class Cloud:
  """A server at work.

  Attributes:
    served: the model.
    programs: of the device.
    queue: requests in work, beyond which others are turned down. Those that
      wait for the compiler hold no place, and have a bound of their own.
    read_seconds: in which a request's body has to be there.
    ready: whether the sizes ahead are compiled.
    stopping: whether no further request is taken.
    in_work: requests to segment that are taken and not yet answered.
    reading: requests whose body is not there yet, at most 4 times `queue`.
  """

  served: Served
  programs: Programs
  queue: int
  read_seconds: float = 30.0
  ready: bool = False
  stopping: bool = False
  in_work: int = 0
  reading: int = 0

  def __post_init__(self):
    self.metrics = Metrics()
    self.batches = Batches(self.programs, self.metrics)
    self.pool = ThreadPoolExecutor(4, "pictures")
    height, width = self.programs.largest
    # Random pixels grow a little by deflate; text fields are small.
    self.most_bytes = height * width * 3 * 101 // 100 + (1 << 16)
    self.described = self.served.described() | {
        "sizes": [list(size) for size in self.programs.sizes],
        "largest": list(self.programs.largest),
    }

  def check_place(self) -> None:
    """Refused where no further request is taken now."""
    if self.stopping:
      raise Refused(503, "The server is stopping; ask again.", 2)
    if not self.ready:
      raise Refused(503, "The server is not ready yet; ask again.", 5)
    if self.in_work - self.batches.compiling >= self.queue:
      raise Refused(503, "The server has as much to do as it takes; ask again.",
                    1)

  @contextlib.contextmanager
  def reader(self) -> Iterator[None]:
    """A place among those whose bodies are read; Refused for none."""
    self.check_place()
    if self.reading >= 4 * self.queue:
      raise Refused(503, "The server reads as much as it takes; ask again.", 1)
    self.reading += 1
    self.metrics.reading.set(self.reading)
    try:
      yield
    finally:
      self.reading -= 1
      self.metrics.reading.set(self.reading)

  @contextlib.contextmanager
  def slot(self) -> Iterator[None]:
    """A place among the requests in work; Refused where there is none."""
    self.check_place()
    self.in_work += 1
    self.metrics.queue.set(self.in_work)
    try:
      yield
    finally:
      self.in_work -= 1
      self.metrics.queue.set(self.in_work)


def make_app(cloud: Cloud) -> Starlette:
  """The ASGI application; who starts it sets `ready` and `stopping`."""

  async def segment(request: Request) -> Response:
    started = time.monotonic()
    try:
      response = await _segment(cloud, request)
      cloud.metrics.images.inc()
      cloud.metrics.seconds.observe(time.monotonic() - started)
    except Refused as refused:
      response = turned_down(refused)
    except (ClientDisconnect, ConnectionError):  # nobody reads this
      response = turned_down(Refused(400, "The client went away."))
    except Exception as error:
      # Not its text or its traceback: they may tell of the image.
      _log.error("a request failed: %s", type(error).__name__)
      response = turned_down(Refused(500, "The server failed; it is noted."))
    cloud.metrics.requests.labels(response.status_code).inc()
    return response

  async def model(_: Request) -> Response:
    return JSONResponse(cloud.described)

  async def healthy(_: Request) -> Response:
    return JSONResponse({"alive": True})

  async def ready(_: Request) -> Response:
    is_ready = cloud.ready and not cloud.stopping
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

  async def metrics(_: Request) -> Response:
    cloud.metrics.sizes.set(len(cloud.programs))
    return Response(cloud.metrics.text(),
                    media_type="text/plain; version=0.0.4")

  described = openapi.describe(cloud.described, cloud.most_bytes)

  async def schema(_: Request) -> Response:
    return JSONResponse(described)

  async def docs(_: Request) -> Response:
    return HTMLResponse(openapi.page(described))

  @contextlib.asynccontextmanager
  async def lifespan(_: Starlette) -> AsyncIterator[None]:
    worker = asyncio.create_task(cloud.batches.work())
    yield
    worker.cancel()
    cloud.batches.close()
    cloud.pool.shutdown()

  return Starlette(
      routes=[
          Route("/v1/model", model),
          Route("/v1/segment", segment, methods=["POST"]),
          Route("/healthz", healthy),
          Route("/readyz", ready),
          Route("/metrics", metrics),
          Route("/openapi.json", schema),
          Route("/docs", docs),
          Mount("/", _Page(directory=PAGE, html=True)),
      ],
      exception_handlers={HTTPException: _no_such},
      lifespan=lifespan,
  )


class _Page(StaticFiles):
  """The page, of one version: browsers ask whether each file is still so."""

  def file_response(self, *args, **kwargs) -> Response:
    response = super().file_response(*args, **kwargs)
    response.headers["Cache-Control"] = "no-cache"
    return response


def with_headers(app: Callable) -> Callable:
  """The application with `_HEADERS` on each answer."""
  added = [(name.lower().encode(), value.encode())
           for name, value in _HEADERS.items()]

  async def outer(scope, receive, send) -> None:
    async def send_more(message) -> None:
      if message["type"] == "http.response.start":
        message["headers"] = [*message.get("headers", ()), *added]
      await send(message)

    await app(scope, receive, send_more)

  return outer


def turned_down(refused: Refused) -> Response:
  """The answer that says so."""
  headers = {}
  if refused.retry_after:
    headers["Retry-After"] = str(refused.retry_after)
  return JSONResponse({"error": refused.sentence}, refused.status, headers)


async def _no_such(_: Request, error: HTTPException) -> Response:
  sentence = {404: "There is nothing here.",
              405: "This is not asked for in that way."}
  return JSONResponse(
      {"error": sentence.get(error.status_code, error.detail)},
      error.status_code, error.headers,
  )


async def _segment(cloud: Cloud, request: Request) -> Response:
  """The answer to a picture; Refused for one that is not taken.

  What the head of the request tells is looked at first, then the body's size,
  then its header, and only then is it decoded.
  """
  sent = _check_asked(cloud.served, request)
  kind = _kind(cloud.served, request)
  length = _length(request, cloud.most_bytes)
  with cloud.reader():
    body = await _body(request, length, cloud.read_seconds)
  with cloud.slot():
    if sent == PNG:
      cloud.programs.check(upload.size_of(body))
      image = await _in(cloud.pool, upload.decode, body)
    else:
      served = cloud.served
      cloud.programs.check(
          upload.compact_size(body, served.scheme, served.block)
      )
      image = await _in(cloud.pool, upload.decode_compact, body)
    del body
    answer = await cloud.batches.answer(image, kind, request.is_disconnected)
    encode = pictures.encode_labels if kind == LABELS else encode_logits
    return Response(
        await _in(cloud.pool, encode, answer, cloud.served.space.palette),
        media_type=kind, headers={"Cache-Control": "no-store"},
    )


def _in(pool: ThreadPoolExecutor, function: Callable, *args) -> Awaitable:
  return asyncio.get_running_loop().run_in_executor(pool, function, *args)


def _check_asked(served: Served, request: Request) -> str:
  """The content type, if the client encrypts as the model reads, as it says."""
  scheme, block = (request.query_params.get(x) for x in ("scheme", "block"))
  if scheme is None or block is None:
    raise Refused(
        400, "The query must name scheme and block, as in"
        f" /v1/segment?scheme={served.scheme.name}&block={served.block}."
    )
  if scheme != served.scheme.name or block != str(served.block):
    raise Refused(
        409, f"This server reads '{served.scheme.name}' in blocks of"
        f" {served.block}, and nothing else; ask /v1/model."
    )
  kind = request.headers.get("content-type", "")
  kind = kind.partition(";")[0].strip().lower()
  if kind not in served.uploads():
    more = f", or its compact form, {compact.KIND}" * (
        compact.KIND in served.uploads()
    )
    raise Refused(
        415, f"The body must be one PNG, of Content-Type: image/png{more}."
    )
  if request.headers.get("content-encoding", "identity") != "identity":
    raise Refused(415, "The body must be the PNG itself, not packed again.")
  return kind


def _kind(served: Served, request: Request) -> str:
  """What the client wants back, by its header Accept; the first it names."""
  kinds = served.kinds()
  asked = request.headers.get("accept") or "*/*"
  for part in asked.split(","):
    name = part.partition(";")[0].strip().lower()
    if name in kinds:
      return name
    if name == "*/*" or (name == "image/*" and LABELS in kinds):
      return kinds[0]
  raise Refused(406, f"The answer is to be had as {' or '.join(kinds)} only.")


def _length(request: Request, most: int) -> int:
  text = request.headers.get("content-length", "")
  if not text.isascii() or not text.isdigit():
    raise Refused(411, "The request must say its Content-Length.")
  if len(text) > 12 or int(text) > most:
    raise Refused(413, f"The body must be at most {most} bytes.")
  return int(text)


async def _body(request: Request, length: int, seconds: float) -> bytes:
  try:
    async with asyncio.timeout(seconds):
      parts, size = [], 0
      async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > length:  # the server library's to hold, and held here too
          break
  except TimeoutError:
    raise Refused(
        408, f"The body took more than {seconds:g} seconds."
    ) from None
  if size != length:
    raise Refused(400, "The body has another length than the request says.")
  return b"".join(parts)


def encode_logits(logits: np.ndarray, palette: np.ndarray) -> bytes:
  """The .npy of float16 [h, w, K]."""
  del palette
  file = io.BytesIO()
  np.save(file, logits, allow_pickle=False)
  return file.getvalue()
