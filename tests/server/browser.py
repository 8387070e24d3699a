"""A real browser before a proxy that sees all that it sends."""

import contextlib
import dataclasses
import http.client
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Whom Chromium asks of its own accord when it starts; the tests refuse it that.
_OWN = re.compile(r"(.+\.)?(google|googleapis|gstatic|gvt1)\.com:443")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@dataclasses.dataclass
class Sent:
  """A request as it left the browser, and its answer."""

  method: str
  url: str
  headers: str
  body: bytes
  status: int = 0
  answer_headers: dict = dataclasses.field(default_factory=dict)
  answer: bytes = b""


@contextlib.contextmanager
def proxy(sent: list[Sent]) -> Iterator[str]:
  """The address of a proxy that passes on plain HTTP to this machine alone.

  All that any part of a browser asks for, of whomever, goes into `sent`.
  """

  class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
      if self.command == "CONNECT" and _OWN.fullmatch(self.path):
        self.send_error(403)
        return
      length = int(self.headers.get("Content-Length") or 0)
      request = Sent(self.command, self.path, str(self.headers),
                     self.rfile.read(length))
      sent.append(request)
      host = urlsplit(self.path)
      if host.hostname != "127.0.0.1":
        self.send_error(403)
        return
      server = http.client.HTTPConnection(host.hostname, host.port, timeout=60)
      path = f"{host.path}?{host.query}" if host.query else host.path
      headers = dict(self.headers) | {"Host": host.netloc}
      server.request(self.command, path, request.body, headers)
      answer = server.getresponse()
      request.status, request.answer = answer.status, answer.read()
      request.answer_headers = {
          name.lower(): value for name, value in answer.getheaders()
      }
      server.close()
      self.send_response_only(answer.status)
      for name, value in request.answer_headers.items():
        if name not in ("connection", "transfer-encoding", "content-length"):
          self.send_header(name, value)
      self.send_header("Content-Length", str(len(request.answer)))
      self.end_headers()
      self.wfile.write(request.answer)

    do_GET = do_POST = do_HEAD = do_CONNECT = do_OPTIONS = handle_any

    def log_message(self, *args):
      pass

  server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_port}"
  finally:
    server.shutdown()
    thread.join()
    server.server_close()
