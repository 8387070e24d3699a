"""A server as its client meets it: asked over HTTP, and never believed.

What it says is read only so far as it fits, and no more bytes than fit. It gets
pictures as `pictures.encode` or `compact.encode` writes them: of pixels alone.
"""

import dataclasses
import ipaddress
import json
import random
import re
import sys
import threading
import time
from typing import Any

import urllib3
from urllib3.exceptions import (
    HTTPError,
    InvalidHeader,
    LocationParseError,
    SSLError,
)

from ppseg_jax.encryption import Scheme, compact, get_scheme
from ppseg_jax.errors import UserError

LABELS, LOGITS = "image/png", "application/x-npy"

_MOST_JSON = 1 << 20  # bytes
_AGAIN = (429, 502, 503, 504)
_CONNECT, _SILENT = 10, 120  # seconds to wait for it, and for its next byte
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # s; Retry-After may ask for more
_SHORTEST_PAUSE = 0.2  # s, whatever Retry-After says
_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")  # FILE.py:NAME would be executed


class Unreachable(ConnectionError):
  """The server cannot be had: to go on with other pictures makes no sense."""


@dataclasses.dataclass(frozen=True)
class Model:
  """What a server says that it reads and answers.

  Attributes:
    scheme: by which pictures must be encrypted.
    block: in blocks of so many pixels.
    patch: whose multiples sizes are as well, in pixels.
    forms: whether the canonical form itself is taken.
    names: of the classes; the id of each is its place.
    colours: of the classes, RGB.
    void: the id of no class.
    sizes: (height, width) that it is ready for.
    largest: (height, width) that it takes at most.
    answers: content types; likewise uploads.
    uploads: see above.
  """

  scheme: Scheme
  block: int
  patch: int
  forms: bool
  names: tuple[str, ...]
  colours: tuple[tuple[int, int, int], ...]
  void: int
  sizes: tuple[tuple[int, int], ...]
  largest: tuple[int, int]
  answers: tuple[str, ...]
  uploads: tuple[str, ...] = (LABELS,)


class Cloud:
  """The server at a URL, for several threads at once.

  Args:
    url: as http://127.0.0.1:8000 or https://host/path.
    insecure: take plain HTTP to another machine.
    connections: at most so many.
    patience: seconds after which a request that got no answer, in however
      many tries, ends the run.

  Raises:
    UserError: for a URL that is none, or may not be used.
  """

  def __init__(
      self, url: str, insecure: bool = False, connections: int = 4,
      patience: float = 300.0,
  ):
    self._url = _checked(url, insecure)
    self._patience = patience
    self._stopped = threading.Event()
    self._http = urllib3.PoolManager(
        num_pools=1, maxsize=connections, block=True,
        headers={"User-Agent": "ppseg_jax", "Accept-Encoding": "identity"},
        timeout=urllib3.Timeout(connect=_CONNECT, read=_SILENT),
    )

  def stop(self) -> None:
    """Ends all waiting: requests that are on their way are the last ones."""
    self._stopped.set()

  def model(self, own: Scheme | None = None) -> Model:
    """What the server says of itself.

    Args:
      own: a scheme that has no name in this package, if it may be meant.

    Raises:
      UserError: where it cannot be used.
      Unreachable: there is no answer in time.
    """
    try:
      return _model(json.loads(self._ask(
          "GET", "/v1/model", "application/json", _MOST_JSON
      )), own)
    except KeyError as error:
      what = f"no {clean(str(error))}"
    except RecursionError:
      what = "it is nested too deeply"
    except (ValueError, TypeError) as error:
      what = clean(str(error))
    raise UserError(
        f"--server={self._url} does not say of itself what this client needs"
        f" ({what}); it is no server of ppseg_jax, or of another version."
    )

  def segment(
      self, model: Model, sent: bytes, kind: str, most: int,
      sent_kind: str = LABELS,
  ) -> bytes:
    """The answer to a picture, of a kind that the model has.

    Every try sends the very same bytes: a picture has one ciphertext.

    Args:
      model: of the server.
      sent: the picture.
      kind: content type of the answer.
      most: bytes that it has at most.
      sent_kind: content type of the picture.

    Raises:
      UserError: the picture is refused, or the answer is none.
      Unreachable: there is no answer in time.
    """
    return self._ask(
        "POST", f"/v1/segment?scheme={model.scheme.name}&block={model.block}",
        kind, most, sent, sent_kind,
    )

  def _ask(
      self, method: str, path: str, kind: str, most: int, body: bytes = b"",
      sent: str = LABELS,
  ) -> bytes:
    """The body of an answer of that kind, after as many tries as it takes."""
    end = time.monotonic() + self._patience
    pause = _FIRST_PAUSE
    while True:
      try:
        status, headers, content = self._once(
            method, path, kind, most, body, end, sent
        )
        if status not in _AGAIN or _is_final(headers, content):
          return self._body(status, headers, content, kind)
        why, wait = f"it answers {status}", _retry_after(headers)
      except (HTTPError, OSError) as error:
        if isinstance(error, SSLError):
          raise Unreachable(
              f"--server={self._url}: the connection is not safe"
              f" ({clean(str(error))})"
          ) from None
        why, wait = clean(str(error)), None
      if method == "GET" and pause == _FIRST_PAUSE:
        print(f"waiting for {self._url}: {why}", file=sys.stderr, flush=True)
      wait = pause * random.uniform(0.5, 1) if wait is None else wait
      if time.monotonic() + wait > end or self._stopped.wait(wait):
        raise Unreachable(
            f"--server={self._url} gave no answer in {self._patience:g} seconds"
            f" ({why})"
        )
      pause = min(2 * pause, _LONGEST_PAUSE)

  def _once(
      self, method: str, path: str, kind: str, most: int, body: bytes,
      end: float, sent: str,
  ) -> tuple[int, urllib3.HTTPHeaderDict, bytes]:
    """(status, headers, body) of one try; UserError for too long a body."""
    sent = {"Content-Type": sent} if body else {}
    response = self._http.request(
        method, self._url + path, body=body or None, retries=False,
        redirect=False, preload_content=False, decode_content=False,
        headers={**self._http.headers, **sent, "Accept": kind},
    )
    if response.status != 200:
      most = _MOST_JSON
    content = bytearray()
    try:
      while part := response.read1(1 << 16):
        content += part
        if len(content) > most:
          raise UserError(
              f"the server answers with more than the {most} bytes that fit; it"
              " is broken, or of another version."
          )
        if time.monotonic() > end:
          raise TimeoutError("its answer does not end")
    except BaseException:
      response.close()  # else the rest would be read as the next answer
      raise
    response.release_conn()
    return response.status, response.headers, bytes(content)

  def _body(
      self, status: int, headers: urllib3.HTTPHeaderDict, content: bytes,
      kind: str,
  ) -> bytes:
    """The content of an answer that is final; UserError unless it is one."""
    if 300 <= status < 400:
      raise UserError(
          f"--server={self._url} sends on to another address, and pictures go"
          " to none but the one that is given; give that one."
      )
    if status != 200:
      said = _sentence(content) or "without a reason"
      raise UserError(f"the server refuses it ({status}): {said}")
    found = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if found != kind or "Content-Encoding" in headers:
      raise UserError(
          f"the server answers with {clean(found) or 'something'} and not with"
          f" {kind}; it is broken, or of another version."
      )
    return content

  def close(self) -> None:
    self._http.clear()

  def __enter__(self) -> "Cloud":
    return self

  def __exit__(self, *_) -> None:
    self.close()


def clean(text: str, most: int = 200) -> str:
  """Text of a stranger: what can be printed on one line of a terminal.

  Without control characters, which move its cursor, and those that turn the
  direction of writing or are not seen.
  """
  shown = (c for c in str(text)[: 4 * most] if c.isprintable())
  return "".join(shown)[:most].strip()


def _checked(url: str, insecure: bool) -> str:
  """The URL without a slash at its end; UserError unless it may be used."""
  try:
    found = urllib3.util.parse_url(url)
  except LocationParseError:
    found = urllib3.util.Url()
  if found.scheme not in ("http", "https") or not found.host or (
      found.auth or found.query or found.fragment
  ):
    raise UserError(
        f"--server={url} must be like https://host or http://127.0.0.1:8000."
    )
  if found.scheme == "http" and not (insecure or _is_here(found.host)):
    raise UserError(
        f"--server={url}: over plain HTTP everyone on the way sees what is sent"
        " and what comes back, and can change it; use https://, a tunnel to"
        " 127.0.0.1, or --insecure if the network is yours."
    )
  return found.url.rstrip("/")


def _is_here(host: str) -> bool:
  try:
    return ipaddress.ip_address(host.strip("[]")).is_loopback
  except ValueError:
    return host == "localhost"


def _is_final(headers: urllib3.HTTPHeaderDict, content: bytes) -> bool:
  """Whether a 503 says of the picture, and not of the hour, why it is none."""
  return "Retry-After" not in headers and bool(_sentence(content))


def _retry_after(headers: urllib3.HTTPHeaderDict) -> float | None:
  """Seconds; None where it is not said."""
  try:
    wait = urllib3.Retry().parse_retry_after(headers.get("Retry-After", ""))
  except (InvalidHeader, ValueError, OverflowError):
    return None
  return max(wait, _SHORTEST_PAUSE)


def _sentence(content: bytes) -> str:
  """What {"error": "one sentence"} says; '' of anything else."""
  try:
    return clean(json.loads(content)["error"], 500)
  except (ValueError, KeyError, TypeError, RecursionError):
    return ""


def _model(said: Any, own: Scheme | None) -> Model:
  """What /v1/model says; ValueError, KeyError or TypeError if it is no such."""
  if said["api"] != 1:
    raise ValueError(f"its interface is version {said['api']}, not 1")
  name = said["scheme"]
  if not _NAME.fullmatch(name):
    raise ValueError(f"a scheme '{name}'")
  classes = said["classes"]
  if not isinstance(classes, list) or not 1 <= len(classes) <= 255 or (
      [each["id"] for each in classes] != [*range(len(classes))]
  ):
    raise ValueError("classes must be 1 to 255, with ids from 0 in order")
  scheme = own if own and own.name == name else get_scheme(name)
  block, patch = (_whole(said[x], 1, 1024) for x in ("block", "patch"))
  if patch % block and block % patch:
    raise ValueError(f"blocks of {block} in patches of {patch}")
  if scheme.hidden and block != patch:
    raise ValueError(f"hidden blocks of {block} in patches of {patch}")
  return Model(
      scheme=scheme, block=block, patch=patch, forms=said["forms"] is True,
      names=tuple(
          clean(each["name"], 80) or f"class {i}"
          for i, each in enumerate(classes)
      ),
      colours=tuple(
          tuple(_whole(value, 0, 255) for value in _sized(each["colour"], 3))
          for each in classes
      ),
      void=_whole(said["void"], len(classes), 255),
      sizes=tuple(map(_size, said["sizes"][:1000])),
      largest=_size(said["largest"]),
      answers=tuple(kind for kind in (LABELS, LOGITS)
                    if kind in _listed(said["answers"])),
      uploads=tuple(kind for kind in (LABELS, compact.KIND)
                    if kind in _listed(said.get("uploads", [LABELS]))),
  )


def _whole(value: Any, least: int, most: int) -> int:
  if type(value) is not int or not least <= value <= most:
    raise ValueError(f"{value!r} is no number in {least} to {most}")
  return value


def _listed(value: Any) -> list:
  if not isinstance(value, list):
    raise TypeError(f"{value!r} is no list")
  return value


def _sized(value: Any, count: int) -> list:
  if len(_listed(value)) != count:
    raise ValueError(f"{value!r} must be {count} numbers")
  return value


def _size(value: Any) -> tuple[int, int]:
  height, width = (_whole(side, 1, 100_000) for side in _sized(value, 2))
  return height, width
