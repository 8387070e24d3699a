"""Segmenting by a server: what is sent, what is believed, what is written."""

import io
import json
import stat
import struct
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from ppseg_jax import pictures
from ppseg_jax.client import cloud, files, walk
from ppseg_jax.client import segment as segmenting
from ppseg_jax.data.label_files import read_labels
from ppseg_jax.encryption import canonical, compact, representative
from ppseg_jax.errors import UserError
from ppseg_jax.refine import network
from tests.client import fake_server
from tests.client.fake_server import npy, png
from tests.client.helpers import NAMES, SIZE, pixels, save
from tests.helpers import photo

BUSY = (503, {"Retry-After": "0"}, b"{}")
OK = {"Content-Type": "image/png"}


@pytest.fixture
def server():
  with fake_server.running() as fake:
    yield fake


@pytest.fixture
def segment(client, server):
  """Calls `client segment` on `place/in`; (exit code, stdout, stderr)."""
  def call(*args, out="@out"):
    return client("segment", "@in", out, f"--server={server.url}",
                  "--patience=10", *args)

  return call


@pytest.fixture
def one(place):
  """`place` with a single picture."""
  (place / "in" / "grey.png").unlink()
  (place / "in" / "more" / "two.jpg").unlink()
  return place


def plain(place, name):
  path = next((place / "in").glob(f"{name.removesuffix('.png')}.*"))
  return pictures.read_rgb(path)


def said(place):
  return json.loads((place / "out" / "labels.json").read_text())


def test_labels_overlays_and_classes_lie_under_the_pictures_names(
    segment, place
):
  code, printed, err = segment()
  assert code == 0, err
  assert "histogram of each channel" in printed and "nothing at all" not in (
      printed
  )
  out = place / "out"
  for folder in ("labels", "overlays"):
    assert sorted(
        p.relative_to(out / folder).as_posix()
        for p in (out / folder).rglob("*.png")
    ) == list(NAMES)
  for name in NAMES:
    image = plain(place, name)
    labels, palette = read_labels(out / "labels" / name)
    np.testing.assert_array_equal(labels, fake_server.labels_of(image))
    assert palette[:6] == bytes((10, 20, 30, 200, 100, 50))
    colours = np.array(fake_server.COLOURS, int)[labels]
    np.testing.assert_array_equal(
        pixels(out / "overlays" / name), (image.astype(int) + colours) // 2
    )
  index = said(place)
  assert [each["name"] for each in index["classes"]] == ["dark", "bright"]
  assert index["void"] == 255 and index["scheme"] == "blockwise"
  for path in out.rglob("*"):
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_nothing_but_encrypted_pixels_crosses_the_wire(segment, server, one):
  exif = Image.Exif()
  exif[0x010E] = "a secret place"  # ImageDescription
  save(one / "in" / "holiday.jpg", photo(*SIZE, 3), exif=exif,
       comment=b"a secret comment")
  code, _, err = segment()
  assert code == 0, err
  assert [line for line, _, _ in server.heard] == [
      "GET /v1/model HTTP/1.1",
      *["POST /v1/segment?scheme=blockwise&block=8 HTTP/1.1"] * 2,
  ]
  for _, headers, body in server.heard:
    names = {line.partition(":")[0] for line in headers.splitlines() if line}
    assert names <= {"Host", "User-Agent", "Accept", "Accept-Encoding",
                     "Content-Type", "Content-Length"}
    for word in ("holiday", "one", "secret", str(one)):
      assert word not in headers and word.encode() not in body
  for body in server.uploads:
    assert chunks(body) <= {b"IHDR", b"IDAT", b"IEND"}
  sent = [np.asarray(Image.open(io.BytesIO(body))) for body in server.uploads]
  for image in (plain(one, "one"), plain(one, "holiday")):
    assert not any((image == each).all(-1).mean() > 0.1 for each in sent)


def chunks(content):
  found, at = set(), 8
  while at < len(content):
    length, kind = struct.unpack(">I4s", content[at : at + 8])
    found.add(kind)
    at += 12 + length
  return found


def test_pictures_are_padded_and_labels_are_not(segment, server, one):
  image = photo(21, 37, 5)
  save(one / "in" / "one.png", image)
  code, printed, err = segment()
  assert code == 0 and "padded (1)" in printed, err
  sent = Image.open(io.BytesIO(server.uploads[0]))
  assert sent.size == (40, 24)
  whole = fake_server.labels_of(pictures.pad(image, 8))
  np.testing.assert_array_equal(
      pixels(one / "out" / "labels" / "one.png"), whole[:21, :37]
  )
  code, _, err = segment("--no-pad", out="@strict")
  assert code == 1 and "37x21 is not a multiple" in err
  assert len(server.uploads) == 1


def test_a_compact_form_has_the_answer_of_the_form_and_fewer_bytes(
    segment, server, one
):
  assert segment("--form", "--level=q4")[0] == 0
  code, _, err = segment("--compact", "--level=q4", out="@small")
  assert code == 0, err
  first, second = server.uploads
  np.testing.assert_array_equal(
      compact.decode(second), Image.open(io.BytesIO(first))
  )
  assert len(second) < len(first)
  np.testing.assert_array_equal(*(
      pixels(one / out / "labels" / "one.png") for out in ("out", "small")
  ))
  server.said["uploads"] = ["image/png"]
  code, _, err = segment("--compact", out="@other")
  assert code == 2 and "--compact: the server takes pictures as PNG only" in err


@pytest.mark.parametrize("broken", [
    BUSY, (429, {}, b""), (502, {}, b"<html>"), None,
    (200, OK | {"Content-Length": "9999"}, b"\x89PNG"),
], ids=["busy", "too many", "gateway", "no answer", "cut short"])
def test_the_same_bytes_are_sent_again_until_there_is_an_answer(
    segment, server, one, broken
):
  server.script = [broken, broken]
  code, _, err = segment()
  assert code == 0, err
  assert len(server.uploads) == 3 and len(set(server.uploads)) == 1
  assert (one / "out" / "labels" / "one.png").exists()


def test_a_server_that_stays_away_ends_the_run_with_a_sentence(
    segment, server, place
):
  server.script = [(503, {"Retry-After": "7200"}, b"")] * 9
  code, _, err = segment("--jobs=1")
  assert code == 2 and err.count("\n") == 1
  assert "no answer in 10 seconds (it answers 503)" in err
  assert len(server.uploads) == 1  # not even tried: it would not be in time
  assert not list((place / "out").rglob("*.png"))


def test_a_server_that_is_not_there_is_waited_for_and_then_named(client):
  code, _, err = client("segment", "@in", "@out", "--patience=1",
                        "--server=http://127.0.0.1:1")
  first, last = err.splitlines()
  assert code == 2 and first.startswith("waiting for http://127.0.0.1:1: ")
  assert "refused" in last and "no answer in 1 seconds" in last


def test_a_refused_picture_is_named_with_the_servers_reason(
    segment, server, place
):
  reason = json.dumps({"error": "too \x1b[2Jlarge\nfor me"}).encode()
  server.script = [(413, {}, reason), (503, {}, reason)]
  code, printed, err = segment("--jobs=1")
  assert code == 1 and "1 picture(s) segmented, 2 refused" in printed
  assert "grey.png: the server refuses it (413): too [2Jlargefor me" in err
  assert "(503)" in err and len(server.uploads) == 3
  code, printed, _ = segment()
  assert code == 0 and "2 picture(s) segmented, 1 done before" in printed


def test_what_is_done_is_not_sent_again(segment, server, place):
  assert segment()[0] == 0
  first = (place / "out" / "labels" / "one.png").read_bytes()
  (place / "out" / "overlays" / "one.png").unlink()
  server.script = [(500, {}, b"")] * 9
  code, printed, err = segment()
  assert code == 0 and "1 picture(s) segmented, 2 done before" in printed, err
  assert len(server.uploads) == 3
  assert (place / "out" / "labels" / "one.png").read_bytes() == first
  assert (place / "out" / "overlays" / "one.png").exists()
  save(place / "in" / "one.png", photo(16, 16))
  code, _, err = segment()
  assert code == 1 and "of another size" in err


def test_labels_of_other_classes_or_asked_otherwise_do_not_mix(
    segment, server, place
):
  assert segment()[0] == 0
  code, _, err = segment("--form")
  assert code == 2 and "asked for in another way" in err
  server.said["classes"].pop()
  code, _, err = segment()
  assert code == 2 and "other classes" in err


@pytest.mark.parametrize("scheme, block, args, refused", [
    ("independent", 8, (), True),
    ("plain", 8, (), True),
    ("blockwise_pixel", 8, (), True),
    ("blockwise", 4, (), True),
    ("blockwise", 8, ("--at-most=blockwise_value",), True),
    ("blockwise_value", 8, ("--at-most=blockwise",), False),
    ("blockwise", 4, ("--smallest-block=4",), False),
    ("independent", 8, ("--at-most=independent",), False),
])
def test_a_server_whose_scheme_shows_more_than_allowed_gets_nothing(
    segment, server, one, scheme, block, args, refused
):
  server.said |= {"scheme": scheme, "block": block}
  code, _, err = segment(*args)
  if refused:
    assert code == 2 and "may show what" in err and err.count("\n") == 1
    assert len(server.heard) == 1 and not (one / "out").exists()
  else:
    assert code == 0 and len(server.uploads) == 1, err


@pytest.mark.parametrize("change, named", [
    ({"scheme": "evil.py:scheme"}, "evil.py"),
    ({"scheme": "nonsense"}, "nonsense"),
    ({"scheme": ["blockwise"]}, "expected string"),
    ({"block": 0}, "0 is no number in 1"),
    ({"block": True}, "True is no number"),
    ({"api": 2}, "version 2"),
    ({"classes": []}, "1 to 255"),
    ({"classes": [{"id": 1, "name": "a", "colour": [1, 2, 3]}]}, "in order"),
    ({"classes": [{"id": 0, "name": "a", "colour": [1, 2, 300]}]}, "300"),
    ({"largest": "huge"}, "no list"),
    ({"answers": None}, "no list"),
    ({"scheme": "blockwise_hidden", "patch": 16}, "patches of 16"),
])
def test_a_server_that_describes_itself_otherwise_is_refused(
    segment, server, one, change, named, monkeypatch
):
  (one / "evil.py").write_text("raise SystemExit('executed')")
  monkeypatch.chdir(one)
  server.said |= change
  code, _, err = segment()
  assert code == 2 and named in err and err.count("\n") == 1
  assert not server.uploads and not (one / "out").exists()


def test_a_missing_field_is_named(segment, server, one):
  del server.said["void"]
  code, _, err = segment()
  assert code == 2 and "no 'void'" in err
  code, _, err = segment(f"--server={server.url}/elsewhere/")
  assert code == 2 and "/elsewhere does not say" in err and "(404)" in err


@pytest.mark.parametrize("status, headers, content, named", [
    (307, {"Location": "http://127.0.0.1:1/v1/segment"}, b"", "another addre"),
    (200, {"Content-Type": "text/html"}, png(np.zeros(SIZE, np.uint8)),
     "text/html and not with image/png"),
    (200, OK | {"Content-Encoding": "gzip"}, b"", "not with image/png"),
    (200, OK, png(np.zeros((40, 24), np.uint8)), "PNG of 24x40"),
    (200, OK, png(np.zeros((3000, 3000), np.uint8)), "PNG of 3000x3000"),
    (200, OK, pictures.encode(photo(*SIZE)), "in mode RGB"),
    (200, OK, png(np.full(SIZE, 2, np.uint8), [(0, 0, 0)] * 3), "class 2"),
    (200, OK, png(np.zeros(SIZE, np.uint8))[:60], "damaged PNG"),
    (200, OK, b"\0" * 100_000, "bytes that fit"),
    (404, {}, b"[" * 100_000, "refuses it (404): without a reason"),
])
def test_an_answer_that_does_not_fit_is_refused(
    segment, server, one, status, headers, content, named
):
  server.script = [(status, headers, content)]
  code, _, err = segment()
  assert code == 1 and named in err and err.count("\n") == 1
  assert not list((one / "out").rglob("*.png"))
  assert len(server.uploads) == 1


class Evil:
  def __reduce__(self):
    return print, ("executed",)


@pytest.mark.parametrize("array, named", [
    (np.zeros((3, 5, 2), np.float32), "float32"),
    (np.zeros((5, 3, 2), np.float16), "(5, 3, 2)"),
    (np.full((3, 5, 2), np.nan, np.float16), "no numbers"),
    (np.array([Evil()], object), "object"),
])
def test_logits_that_do_not_fit_are_refused(
    segment, server, one, array, named, capsys
):
  content = npy(array)
  server.script = [(200, {"Content-Type": "application/x-npy"}, content)]
  code, printed, err = segment("--resize=24x40")
  assert code == 1 and named in err and "executed" not in printed
  server.script = [(200, {"Content-Type": "application/x-npy"}, content[:50])]
  assert segment("--resize=24x40")[0] == 1


@pytest.mark.parametrize("url", [
    "127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://a:b@127.0.0.1",
    "http://127.0.0.1/?x=1", "http://[::1", "",
])
def test_a_url_that_is_none_is_refused(client, url):
  code, _, err = client("segment", "@in", "@out", f"--server={url}")
  assert code == 2 and "must be like https://" in err


@pytest.mark.parametrize("url, allowed", [
    ("http://localhost:8000", True), ("http://127.9.9.9", True),
    ("http://[::1]:80/path", True), ("https://example.com", True),
    ("http://example.com", False), ("http://10.0.0.1", False),
    ("http://localhost.example.com", False),
])
def test_plain_http_leaves_this_machine_only_where_it_is_allowed(url, allowed):
  cloud.Cloud(url, insecure=True)
  if allowed:
    cloud.Cloud(url)
    return
  with pytest.raises(UserError, match="--insecure"):
    cloud.Cloud(url)


def test_names_of_classes_are_made_harmless(segment, server, one):
  server.said["classes"][0]["name"] = "\x1b]0;x\x07ro\u202ead\n"
  server.said["classes"][1]["name"] = "\u200b"
  assert segment()[0] == 0
  assert [each["name"] for each in said(one)["classes"]] == [
      "]0;xroad", "class 1"
  ]


def test_answers_of_a_hidden_layout_are_put_back_in_place(
    segment, server, one
):
  server.said |= {"scheme": "blockwise_hidden", "forms": False,
                  "hidden": {"bands": 0}, "answers": ["application/x-npy"]}
  code, _, err = segment()
  assert code == 0, err
  image = plain(one, "one")
  sent = np.asarray(Image.open(io.BytesIO(server.uploads[0])))
  assert (fake_server.bright(sent) != fake_server.bright(image)).any()
  where = fake_server.bright(image)
  logits = np.stack([~where, where], -1).astype(np.float32)
  expected = jax.image.resize(logits, (*SIZE, 2), "bilinear").argmax(-1)
  np.testing.assert_array_equal(
      pixels(one / "out" / "labels" / "one.png"), expected
  )
  code, _, err = segment("--form", out="@other")
  assert code == 2 and "does not take canonical forms" in err


def test_the_canonical_form_is_sent_without_a_key(
    segment, server, one, monkeypatch
):
  monkeypatch.setattr(segmenting, "fresh_keys", None)
  code, _, err = segment("--form")
  assert code == 0, err
  image = plain(one, "one")
  np.testing.assert_array_equal(
      np.asarray(Image.open(io.BytesIO(server.uploads[0]))),
      representative("blockwise", image, 8),
  )
  np.testing.assert_array_equal(
      pixels(one / "out" / "labels" / "one.png"), fake_server.labels_of(image)
  )


def test_pictures_are_sent_at_another_size_and_labels_have_their_own(
    segment, server, one
):
  image = np.zeros((96, 160, 3), np.uint8)
  image[:, 80:] = 255
  save(one / "in" / "one.png", image)
  code, _, err = segment()
  assert code == 1 and "160x96 is above the largest" in err
  code, _, err = segment("--resize=24", out="@small")
  assert code == 0, err
  assert Image.open(io.BytesIO(server.uploads[0])).size == (40, 24)
  labels = pixels(one / "small" / "labels" / "one.png")
  assert labels.shape == (96, 160)
  assert not labels[:, :64].any() and labels[:, 96:].all()
  server.said["sizes"] = [[8, 16]]
  code, printed, _ = segment("--resize=24x40", out="@exact")
  assert code == 0 and "large (1)" in printed
  assert segment("--resize=x4", out="@no")[0] == 2


def test_answers_are_refined_with_the_plain_picture(segment, server, one):
  net = network.Refiner(2, width=2, layers=1, factor=2)
  shape = (1, 2, 2)
  params = net.init(jax.random.key(0), np.zeros((*shape, 3), np.uint8),
                    np.zeros((*shape, 2), np.float32))["params"]
  params["out"]["bias"] = np.tile([0.0, 5.0], 4).astype(np.float32)
  path = one / "refiner.safetensors"
  network.export(path, net, params, ("dark", "bright"))
  code, _, err = segment("--refine=" + str(path))
  assert code == 0, err
  assert pixels(one / "out" / "labels" / "one.png").all()
  assert said(one)["refiner"]
  network.export(path, net, params, ("dark", "brighter"))
  code, _, err = segment("--refine=" + str(path), out="@other")
  assert code == 2 and "for other classes" in err
  path.write_bytes(path.read_bytes()[:100])
  code, _, err = segment("--refine=" + str(path), out="@other")
  assert code == 2 and "is no refiner" in err


def test_so_many_pictures_are_asked_for_at_a_time(segment, server, place):
  barrier = threading.Barrier(3, timeout=20)
  server.before = barrier.wait
  code, _, err = segment("--jobs=3")
  assert code == 0 and not barrier.broken, err


def test_a_walk_that_is_stopped_leaves_no_work_behind(tmp_path):
  stopped, seen = threading.Event(), []
  paths = [tmp_path / str(i) for i in range(100)]

  def one(path, output):
    seen.append(path)
    if path == paths[3]:
      raise KeyboardInterrupt
    if path > paths[3]:
      assert stopped.wait(20)
    return True

  with files.Output(tmp_path) as output, pytest.raises(KeyboardInterrupt):
    walk.each("done", paths, output, one, jobs=2, stop=stopped.set)
  assert stopped.is_set() and len(seen) < 10


def test_a_level_is_all_that_crosses_the_wire_and_is_allowed_as_such(
    segment, server, one
):
  code, printed, err = segment("--level=q4", "--at-most=blockwise_q4")
  assert code == 0, err
  assert "the means of 4 groups" in printed
  image = pictures.pad(plain(one, "one.png"), 8)
  (sent,) = (np.asarray(Image.open(io.BytesIO(x))) for x in server.uploads)
  np.testing.assert_array_equal(
      representative("blockwise", sent, 8),
      representative("blockwise_q4", image, 8),
  )
  assert said(one)["level"] == "q4"
  code, _, err = segment("--at-most=blockwise_q4", out="@out2")
  assert code == 2 and "may show what 'blockwise_q4'" in err


def test_a_release_with_noise_crosses_the_wire_once_for_each_picture(
    segment, server, one
):
  noise = ("--epsilon=2", "--pixels=1", "--groups=4")
  server.script = [BUSY]
  code, printed, err = segment(*noise, "--resize=24x40")
  assert code == 0, err
  assert "of one picture epsilon 2," in printed
  first, again = server.uploads  # the same bytes, and so the same noise
  assert first == again
  sent = np.asarray(Image.open(io.BytesIO(first)))
  np.testing.assert_array_equal(
      representative("blockwise", sent, 8),
      representative("blockwise_q4", sent, 8),
  )
  assert "epsilon 2" in said(one)["private"]
  code, _, err = segment("--epsilon=2", "--pixels=1", "--resize=20x40",
                         out="@out2")
  assert code == 1 and "padding would repeat pixels" in err
  assert len(server.uploads) == 2


def test_a_picture_that_is_not_whole_in_bands_is_not_padded_to_them(
    segment, server, one
):
  server.said |= {"scheme": "blockwise_bands2", "hidden": {"bands": 2}}
  code, _, err = segment()
  assert code == 1 and "not whole in bands of 2 rows" in err
  assert not server.uploads


@pytest.mark.parametrize("patch", [24, 264])
def test_padding_to_a_patch_repeats_whole_blocks_and_shows_no_shift(
    segment, server, one, patch
):
  server.said |= {"patch": patch, "largest": [4000, 4000]}
  image = photo(33, 25, 7)
  save(one / "in" / "one.png", image)
  code, _, err = segment()
  assert code == 0, err
  (sent,) = (np.asarray(Image.open(io.BytesIO(x))) for x in server.uploads)
  assert not sent.shape[0] % patch and not sent.shape[1] % patch
  shown = {
      block.tobytes() for block in
      np.asarray(canonical("blockwise", pictures.pad(image, 8), 8))
  }
  assert {
      block.tobytes() for block in np.asarray(canonical("blockwise", sent, 8))
  } == shown


@pytest.mark.parametrize("more", [{"block": 16, "patch": 24},
                                  {"block": 1016, "patch": 1021}])
def test_a_patch_that_does_not_fit_the_block_is_no_model(segment, server, more):
  server.said |= more
  code, _, err = segment("--smallest-block=1")
  assert code == 2 and "in patches of" in err
