"""A server without a model: bright blocks are of class 1, dark ones of 0."""

import contextlib
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

from ppseg_jax.encryption import compact

BLOCK = 8
COLOURS = ((10, 20, 30), (200, 100, 50))


def bright(pixels):
  """Class of each block, of its mean, bool [H / BLOCK, W / BLOCK].

  Blockwise encryption of any kind keeps the mean.
  """
  pixels = np.atleast_3d(pixels).astype(np.int64)
  h, w, c = pixels.shape
  blocks = pixels.reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK, c)
  return blocks.sum((1, 3, 4)) > 127 * BLOCK * BLOCK * c


def labels_of(pixels):
  return bright(pixels).repeat(BLOCK, 0).repeat(BLOCK, 1).astype(np.uint8)


def png(labels, colours=COLOURS):
  image = Image.fromarray(labels)
  image.putpalette(np.array(colours, np.uint8).tobytes())
  file = io.BytesIO()
  image.save(file, format="PNG")
  return file.getvalue()


def npy(array):
  file = io.BytesIO()
  np.save(file, array)
  return file.getvalue()


class FakeServer:
  """What it says of itself, what it was sent, and how it is to answer.

  Attributes:
    url: of the server.
    said: by /v1/model.
    script: answers to the next requests to segment, each (status, headers,
      body), or None for a connection that breaks; then it answers as a server.
    heard: of each request its first line, headers as text, and body.
  """

  def __init__(self):
    self.said = {
        "ppseg_jax": "0.1.0", "api": 1, "scheme": "blockwise", "block": BLOCK,
        "patch": BLOCK, "form": "blockwise", "forms": True, "hidden": None,
        "leak": "nothing at all", "void": 255,
        "classes": [{"id": i, "name": name, "colour": list(colour)}
                    for i, (name, colour) in
                    enumerate(zip(("dark", "bright"), COLOURS, strict=True))],
        "sizes": [[24, 40]], "largest": [64, 64],
        "uploads": ["image/png", compact.KIND],
        "answers": ["image/png", "application/x-npy"],
    }
    self.script, self.heard, self.url = [], [], ""
    self.before = lambda: None
    self._lock = threading.Lock()

  @property
  def uploads(self):
    return [body for line, _, body in self.heard if line.startswith("POST")]

  def answer(self, method, path, headers, body):
    if not path.startswith("/v1/"):
      return 404, {}, b""
    if method == "GET":
      return 200, {"Content-Type": "application/json"}, json.dumps(
          self.said
      ).encode()
    self.before()
    with self._lock:
      if self.script:
        return self.script.pop(0)
    if headers["Content-Type"] == compact.KIND:
      pixels = compact.decode(body)
    else:
      pixels = np.asarray(Image.open(io.BytesIO(body)))
    kind = headers["Accept"]
    if kind == "image/png":
      return 200, {"Content-Type": kind}, png(labels_of(pixels))
    logits = np.stack([~bright(pixels), bright(pixels)], -1)
    return 200, {"Content-Type": kind}, npy(logits.astype(np.float16))


@contextlib.contextmanager
def running():
  fake = FakeServer()

  class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
      body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
      fake.heard.append((self.requestline, str(self.headers), body))
      said = fake.answer(self.command, self.path, self.headers, body)
      if said is None:
        self.close_connection = True
        return
      status, headers, content = said
      self.send_response(status)
      for name, value in {"Content-Length": str(len(content)),
                          **headers}.items():
        self.send_header(name, value)
      self.end_headers()
      self.wfile.write(content)
      self.close_connection = len(content) != int(
          headers.get("Content-Length", len(content))
      )

    do_POST = do_GET

    def log_message(self, *_):
      pass

  class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
      pass  # a client that hangs up

  with Server(("127.0.0.1", 0), Handler) as server:
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
      yield fake
    finally:
      server.shutdown()
      thread.join()
