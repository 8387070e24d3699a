"""What is asked over HTTP, and what is answered or turned down."""

import contextlib
import io
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from PIL import Image

from ppseg_jax import predict as prediction
from ppseg_jax.data.labels import CITYSCAPES
from ppseg_jax.encryption import compact, representative
from ppseg_jax.server import listen
from tests.helpers import photo
from tests.server.helpers import chunk, cipher, png


def metric(server, name):
  text = server.client.get("/metrics")[2].decode()
  return sum(float(line.rpartition(" ")[2]) for line in text.splitlines()
             if line.startswith(f"ppseg_{name}"))


def test_a_client_is_told_all_that_it_needs(server):
  told = server.client.json("/v1/model")
  assert told["api"] == 1 and told["scheme"] == "blockwise"
  assert told["form"] == "blockwise" and told["forms"] is True
  assert (told["block"], told["patch"], told["void"]) == (8, 8, 255)
  assert told["hidden"] is None and "histogram" in told["leak"]
  assert told["sizes"] == [[16, 24]] and told["largest"] == [32, 48]
  assert told["uploads"] == ["image/png", compact.KIND]
  assert told["answers"] == ["image/png", "application/x-npy"]
  assert told["classes"][10] == {
      "id": 10, "name": "sky", "colour": [70, 130, 180]
  }


def test_labels_are_those_of_mode_predict_to_the_last_bit(server, tmp_path):
  """Of sizes that are compiled ahead, are not, and take several windows."""
  config = server.config
  pictures = {f"{h}x{w}": cipher(h, w) for h, w in ((16, 24), (24, 32))}
  for name, pixels in pictures.items():
    Image.fromarray(pixels).save(tmp_path / f"{name}.png")
  config.predict.update(dir=str(tmp_path), scheme="")
  prediction.predict(config, server.folder)
  for name, pixels in pictures.items():
    with Image.open(server.folder / "predict" / f"{name}_ids.png") as image:
      expected = np.asarray(image)
    found = server.client.labels(pixels)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 1


def test_labels_have_the_colours_of_their_classes(server):
  _, _, body = server.client.segment(png(cipher(16, 24)))
  path = server.folder.parent / "answer.png"
  path.write_bytes(body)
  with Image.open(path) as image:
    ids, rgb = np.asarray(image), np.asarray(image.convert("RGB"))
  np.testing.assert_array_equal(rgb, CITYSCAPES.colourise(ids))


def test_logits_of_patches_are_those_that_labels_are_made_of(server):
  pixels = cipher(16, 24)
  logits = server.client.logits(pixels)
  assert logits.shape == (2, 3, 19) and logits.dtype == np.float16
  labels = prediction.largest(logits.astype(np.float32), (16, 24))
  assert (labels == server.client.labels(pixels)).mean() > 0.99
  assert server.client.logits(cipher(24, 32)).shape == (3, 4, 19)


def test_every_ciphertext_and_the_form_itself_get_the_same_answer(server):
  one = server.client.logits(cipher(16, 24))
  other = server.client.logits(cipher(16, 24))
  form = server.client.logits(FORM(photo(16, 24)))
  plain = server.client.logits(photo(16, 24))
  for logits in (other, form, plain):
    np.testing.assert_array_equal(logits, one)
  assert (server.client.logits(cipher(16, 24, seed=1)) != one).any()


def test_a_grey_picture_is_read_as_three_equal_channels(server):
  grey = photo(16, 24)[..., 0]
  np.testing.assert_array_equal(
      server.client.labels(grey),
      server.client.labels(np.repeat(grey[..., None], 3, -1)),
  )


def test_many_at_once_get_each_their_own_answer_in_batches(server):
  pictures = [cipher(16, 24, seed) for seed in range(12)]
  alone = [server.client.labels(pixels) for pixels in pictures]
  bad = png(pictures[0])[:-20]
  before = metric(server, "batch_images_count")
  with ThreadPoolExecutor(12) as pool:
    refused = [pool.submit(server.client.refusal, bad) for _ in range(6)]
    together = list(pool.map(server.client.labels, pictures))
  np.testing.assert_array_equal(together, alone)
  assert {each.result()[0] for each in refused} == {400}
  assert metric(server, "batch_images_count") - before < 12
  assert metric(server, "queue") == 0


def post(server, body, query="?scheme=blockwise&block=8"):
  return server.client.ask(
      "POST", f"/v1/segment{query}", body, Content_Type=compact.KIND
  )


def even(height=16, width=24):
  """uint8 [H, W, 3], grey, each block of one value: it carries every level."""
  blocks = photo(height, width)[::8, ::8, :1].repeat(3, 2)
  return blocks.repeat(8, 0).repeat(8, 1)


@pytest.mark.parametrize("name", ["blockwise", "blockwise_q4"])
def test_a_compact_form_gets_the_labels_of_its_picture(server, name):
  image = even()
  if name == "blockwise":
    image = np.asarray(FORM(cipher(16, 24)))
  status, _, body = post(server, compact.encode(name, image, 8))
  assert status == 200, body
  with Image.open(io.BytesIO(body)) as labels:
    np.testing.assert_array_equal(labels, server.client.labels(image))


def test_bad_compact_forms_get_a_sentence(server):
  good = compact.encode("blockwise_q4", even(), 8)
  for status, body in (
      (400, b""), (400, good[:-3]), (400, good + b"x"), (400, GOOD),
      (400, good[:7] + b"\x09" + good[8:]),
      (409, compact.encode("blockwise_value", even(), 8)),
      (409, compact.encode("blockwise", even(), 4)),
      (413, compact.encode("blockwise", even(48, 72), 8)),
  ):
    found, _, said = post(server, body)
    assert found == status and json.loads(said)["error"].endswith("."), said


FORM = jax.jit(lambda image: representative("blockwise", image, 8))
GOOD = png(photo(16, 24))


def with_chunk(kind, data):
  return GOOD[:33] + chunk(kind, data) + GOOD[33:]


def with_header(**fields):
  values = {"width": 24, "height": 16, "depth": 8, "colour": 2,
            "interlaced": 0, **fields}
  data = (values["width"].to_bytes(4) + values["height"].to_bytes(4)
          + bytes([values["depth"], values["colour"], 0, 0,
                   values["interlaced"]]))
  return GOOD[:8] + chunk(b"IHDR", data) + GOOD[33:]


@pytest.mark.parametrize("status, body, said", [
    (400, GOOD[:-30], "cut short"),
    (400, GOOD[:60], "cut short"),
    (400, GOOD[:20], "header"),
    (400, GOOD[:100] + bytes([GOOD[100] ^ 1]) + GOOD[101:], "damaged"),
    (400, GOOD[:20] + b"\1" + GOOD[21:], "header"),
    (400, with_chunk(b"NEED", b""), "damaged"),
    (415, b"", "not a PNG"),
    (415, b"\xff\xd8\xff\xe0 a JPEG", "not a PNG"),
    (415, with_chunk(b"tRNS", bytes(6)), "transparency"),
    (415, with_chunk(b"acTL", bytes(8)), "several"),
    (415, with_header(depth=16), "8-bit"),
    (415, with_header(colour=6), "8-bit"),
    (415, with_header(colour=3), "8-bit"),
    (415, with_header(interlaced=1), "interlaced"),
    (413, with_header(height=72), "72x24 .* 32x48"),
    (413, with_header(width=2**31 - 1, height=2**31 - 1), "largest"),
    (400, with_header(width=0), "header"),
    (422, png(photo(12, 24)), "blocks of 8"),
], ids=lambda value: value if isinstance(value, (int, str)) else "")
def test_bad_pictures_get_a_sentence(server, status, body, said):
  code, sentence = server.client.refusal(body)
  assert code == status and re.search(said, sentence), sentence


@pytest.mark.parametrize("status, query, headers, said", [
    (400, "", {}, "scheme and block"),
    (400, "?scheme=blockwise", {}, "scheme and block"),
    (409, "?scheme=blockwise_value&block=8", {}, "blocks of 8"),
    (409, "?scheme=blockwise&block=16", {}, "blocks of 8"),
    (415, None, {"Content_Type": "image/jpeg"}, "image/png"),
    (415, None, {"Content_Encoding": "gzip"}, "packed"),
    (406, None, {"Accept": "text/html"}, "image/png or application/x-npy"),
    (411, None, {"Transfer_Encoding": "chunked"}, "Content-Length"),
])
def test_requests_that_ask_for_something_else_get_a_sentence(
    server, status, query, headers, said
):
  path = f"/v1/segment{query}" if query is not None else (
      "/v1/segment?scheme=blockwise&block=8"
  )
  body = b"4\r\nabcd\r\n0\r\n\r\n" if status == 411 else GOOD
  code, sentence = server.client.refusal(body, path, **headers)
  assert code == status and said in sentence


def raw(server, text, seconds=10):
  """What comes back for bytes that are sent as they are."""
  with socket.create_connection(("127.0.0.1", server.client.port)) as line:
    line.settimeout(seconds)
    line.sendall(text)
    found = b""
    with contextlib.suppress(ConnectionResetError):
      while b"}" not in found and (more := line.recv(65536)):
        found += more
  return found


def test_a_body_too_large_is_refused_before_it_is_sent(server):
  head = (b"POST /v1/segment?scheme=blockwise&block=8 HTTP/1.1\r\nHost: a\r\n"
          b"Content-Type: image/png\r\nContent-Length: 99999999\r\n\r\n")
  assert b" 413 " in raw(server, head).splitlines()[0]


def test_headers_without_end_are_cut_off(server):
  found = raw(server, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 40_000)
  assert not found or b" 400 " in found.splitlines()[0]


def test_slow_clients_are_let_go(server, monkeypatch):
  monkeypatch.setattr(listen, "_PATIENCE", 0.3)
  monkeypatch.setattr(server.cloud, "read_seconds", 0.2)
  assert raw(server, b"GET /v1/mod") == b""  # it never asks
  head = (b"POST /v1/segment?scheme=blockwise&block=8 HTTP/1.1\r\nHost: a\r\n"
          b"Content-Type: image/png\r\nContent-Length: 999\r\n\r\nab")
  assert b" 408 " in raw(server, head).splitlines()[0]
  assert server.cloud.in_work == 0


def test_no_more_than_the_queue_is_taken(server, monkeypatch):
  monkeypatch.setattr(server.cloud, "queue", 0)
  status, headers, _ = server.client.segment(GOOD)
  assert status == 503 and int(headers["Retry-After"]) > 0
  assert server.client.get("/readyz")[0] == 200


def test_bodies_that_do_not_come_hold_no_place_and_are_bounded(
    server, monkeypatch
):
  monkeypatch.setattr(server.cloud, "queue", 1)
  head = (b"POST /v1/segment?scheme=blockwise&block=8 HTTP/1.1\r\nHost: a\r\n"
          b"Content-Type: image/png\r\nContent-Length: 999\r\n\r\nab")
  with contextlib.ExitStack() as stack:
    for count in range(1, 5):
      line = stack.enter_context(
          socket.create_connection(("127.0.0.1", server.client.port))
      )
      if count == 4:
        assert server.client.segment(GOOD)[0] == 200
      line.sendall(head)
      wait_until(lambda count=count: server.cloud.reading == count)
    status, headers, _ = server.client.segment(GOOD)
    assert status == 503 and int(headers["Retry-After"]) > 0
  wait_until(lambda: server.cloud.reading == 0)


def test_who_waits_for_the_compiler_holds_no_place_and_is_bounded(
    server, monkeypatch
):
  monkeypatch.setattr(server.cloud, "queue", 1)
  go, compiling = threading.Event(), server.cloud.programs.compile
  monkeypatch.setattr(
      server.cloud.programs, "compile",
      lambda size: go.wait(60) and compiling(size),
  )
  ran = metric(server, "batch_images_sum")
  with ThreadPoolExecutor(4) as pool:
    asked = []
    try:
      for count in range(1, 4):
        asked.append(pool.submit(server.client.segment, png(photo(24, 16))))
        wait_until(lambda count=count: server.cloud.batches.compiling == count)
      body = png(photo(24, 16))
      with socket.create_connection(("127.0.0.1", server.client.port)) as line:
        line.sendall(
            b"POST /v1/segment?scheme=blockwise&block=8 HTTP/1.1\r\nHost: a\r\n"
            b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        wait_until(lambda: server.cloud.batches.compiling == 4)
      # The last one hung up.
      status, headers, _ = server.client.segment(png(photo(32, 16)))
      assert status == 503 and int(headers["Retry-After"]) > 0
      assert server.client.segment(GOOD)[0] == 200
    finally:
      go.set()
    assert [each.result()[0] for each in asked] == [200] * 3
  wait_until(lambda: server.cloud.in_work == 0)
  assert metric(server, "batch_images_sum") - ran == 4


def wait_until(what, seconds=30):
  end = time.monotonic() + seconds
  while not what():
    assert time.monotonic() < end
    time.sleep(0.01)


def test_a_connection_too_many_is_told_so(server):
  with contextlib.ExitStack() as stack:
    for _ in range(2 * server.cloud.queue + 256):
      stack.enter_context(
          socket.create_connection(("127.0.0.1", server.client.port))
      )
    status, headers, _ = server.client.segment(GOOD)
  assert status == 503 and int(headers["Retry-After"]) > 0
  assert headers["Referrer-Policy"] == "no-referrer"


def test_a_server_that_stops_says_so(server, monkeypatch):
  monkeypatch.setattr(server.cloud, "stopping", True)
  status, headers, _ = server.client.segment(GOOD)
  assert status == 503 and int(headers["Retry-After"]) > 0
  assert server.client.get("/readyz")[0] == 503
  assert server.client.get("/healthz")[0] == 200


def test_sizes_are_compiled_once_and_make_room_for_others(server):
  before = metric(server, "compilations_total")
  for width in (8, 16, 24):  # two of them are kept
    with ThreadPoolExecutor(3) as pool:
      asked = [pool.submit(server.client.segment, png(photo(8, width)))
               for _ in range(3)]
    assert {each.result()[0] for each in asked} == {200}
  assert metric(server, "compiled_sizes") == 3
  assert metric(server, "compilations_total") - before == 3
  assert server.client.labels(cipher(16, 24)).shape == (16, 24)


def test_a_failure_of_the_servers_own_tells_nothing(
    server, monkeypatch, caplog
):
  def fail(program, images, kinds):
    raise ValueError(f"{images}")

  monkeypatch.setattr(server.cloud.programs, "run", fail)
  code, sentence = server.client.refusal(GOOD)
  assert code == 500 and "array" not in sentence
  assert "ValueError" in caplog.text and "array" not in caplog.text


def test_everything_is_counted(server):
  before = [metric(server, name) for name in (
      'requests_total{status="200"}', 'requests_total{status="415"}',
      "images_total", "seconds_count",
  )]
  server.client.labels(cipher(16, 24))
  server.client.refusal(b"?")
  after = [metric(server, name) for name in (
      'requests_total{status="200"}', 'requests_total{status="415"}',
      "images_total", "seconds_count",
  )]
  assert np.subtract(after, before).tolist() == [1, 1, 1, 1]


def test_the_interface_describes_itself(server):
  described = server.client.json("/openapi.json")
  assert described["openapi"].startswith("3.")
  answers = described["paths"]["/v1/segment"]["post"]["responses"]
  assert answers.keys() >= {"200", "400", "409", "413", "415", "422", "503"}
  for path in described["paths"]:
    assert server.client.get(path)[0] in (200, 404)
  page = server.client.get("/docs")[2].decode()
  assert "/v1/segment" in page and "<script" not in page


@pytest.mark.parametrize("path, status", [
    ("/", 200), ("/index.html", 200), ("/nothing", 404), ("/../app.py", 404),
    ("/..%2fapp.py", 404), ("/%2e%2e/app.py", 404), ("//etc/passwd", 404),
])
def test_the_page_is_served_and_nothing_beside_it(server, path, status):
  code, headers, body = server.client.get(path)
  assert code == status and b"import" not in body
  policy = headers["Content-Security-Policy"]
  assert "connect-src 'self'" in policy and "default-src 'none'" in policy
  assert headers["X-Content-Type-Options"] == "nosniff"
  assert headers["Referrer-Policy"] == "no-referrer"
