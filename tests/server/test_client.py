"""The client and the server together: what one learns, the other never had."""

import base64
import contextlib
import io
import os
import socket
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from ppseg_jax import predict as prediction
from ppseg_jax.client import segment as segmenting
from ppseg_jax.client.__main__ import main
from ppseg_jax.encryption import fresh_keys
from ppseg_jax.encryption.blocks import split
from tests.helpers import photo

BLOCK = 8
SIZES = {"in/one.png": (16, 24), "in/more/two.png": (13, 21)}


class Wire:
  """Passes bytes between a client and the server, and keeps them.

  Attributes:
    port: where the client connects to.
    crossed: all that went either way.
  """

  def __init__(self, port: int):
    self.crossed = bytearray()
    self._to = port
    self._listening = socket.create_server(("127.0.0.1", 0))
    self.port = self._listening.getsockname()[1]
    threading.Thread(target=self._accept, daemon=True).start()

  def _accept(self):
    with contextlib.suppress(OSError):  # closed
      while True:
        ours, _ = self._listening.accept()
        theirs = socket.create_connection(("127.0.0.1", self._to))
        for ends in ((ours, theirs), (theirs, ours)):
          threading.Thread(target=self._pass, args=ends, daemon=True).start()

  def _pass(self, source, target):
    with contextlib.suppress(OSError):
      while content := source.recv(1 << 16):
        self.crossed += content
        target.sendall(content)
      target.shutdown(socket.SHUT_WR)

  def close(self):
    self._listening.close()

  def pictures(self):
    """All PNGs that crossed, decoded: what was sent, and what came back."""
    rest, found = bytes(self.crossed), []
    while (at := rest.find(b"\x89PNG")) >= 0:
      end = rest.index(b"IEND", at) + 8
      found.append(Image.open(io.BytesIO(rest[at:end])))
      rest = rest[end:]
    return ([np.asarray(image) for image in found if image.mode == "RGB"],
            [np.asarray(image) for image in found if image.mode == "P"])


def spellings(key: jax.Array) -> set[bytes]:
  """A key, and each half of it, as it may be written, in small letters."""
  words = np.asarray(jax.random.key_data(key), np.uint32)
  found = {str(word).encode() for word in words if word > 10**8}
  for order in (words, words[::-1]):
    for kind in ("<u4", ">u4"):
      raw = order.astype(kind).tobytes()
      for part in (raw, raw[:8], raw[8:]):
        found |= {part.lower(), part.hex().encode(), part.hex(" ").encode(),
                  part.hex("-", 4).encode()}
        for shift in range(3):  # where a text in base64 may begin
          text = base64.b64encode(bytes(shift) + part)[4 if shift else 0 : -4]
          found |= {text.lower(), text.translate(
              bytes.maketrans(b"+/", b"-_")).lower()}
        found.add(base64.b32encode(part).strip(b"=").lower())
  return found


@pytest.mark.parametrize("write", [
    lambda raw: raw, lambda raw: raw[8:],
    lambda raw: raw.hex().upper().encode(),
    lambda raw: base64.b64encode(b"ab" + raw + b"c"),
    lambda raw: base64.urlsafe_b64encode(b"a" + raw + b"bc"),
    lambda raw: base64.b32encode(raw),
    lambda raw: str(np.frombuffer(raw, "<u4").tolist()).encode(),
    lambda raw: np.frombuffer(raw, "<u4").byteswap().tobytes().hex().encode(),
])
def test_the_search_for_keys_finds_them_however_they_are_written(write):
  key = fresh_keys(1)[0]
  text = b"some" + write(np.asarray(jax.random.key_data(key)).tobytes()) + b"x"
  assert any(spelt in text.lower() for spelt in spellings(key))
  assert not any(spelt in text.lower() for spelt in spellings(fresh_keys(1)[0]))


@contextlib.contextmanager
def opened_for_writing():
  """Collects the paths that this process opens to write, but for the client's.

  The client's files have no name while they are written (O_TMPFILE).
  """
  paths, watching, nameless = [], True, getattr(os, "O_TMPFILE", 0)

  def hook(event, args):  # there is no way to remove one
    if event == "open" and watching and isinstance(args[0], str | bytes):
      flags = args[2] or 0
      if flags & (os.O_WRONLY | os.O_RDWR) and (
          not nameless or flags & nameless != nameless
      ):
        paths.append(Path(os.fsdecode(args[0])))

  sys.addaudithook(hook)
  yield paths
  watching = False


@pytest.fixture
def watched(server, tmp_path, monkeypatch, capfd):
  """A folder segmented through a wire: that, the keys, and what was written.

  The last is the contents of files, but for OUT_DIR, and what was printed.
  """
  for seed, (name, size) in enumerate(SIZES.items()):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    image = photo(*size, seed)
    if seed:
      image[:BLOCK, :BLOCK] = 77  # a block of one value stays as it is
    Image.fromarray(image).save(path)
  keys, made = [], fresh_keys

  def noted(count):
    fresh = made(count)
    keys.extend(fresh)
    return fresh

  monkeypatch.setattr(segmenting, "fresh_keys", noted)
  wire = Wire(server.client.port)
  with opened_for_writing() as paths:
    code = main(["segment", str(tmp_path / "in"), str(tmp_path / "out"),
                 f"--server=http://127.0.0.1:{wire.port}"])
  wire.close()
  printed = capfd.readouterr()
  assert code == 0, printed.err
  written = [path.read_bytes() for path in paths if path.is_file()]
  assert not any(server.folder in path.parents for path in paths)
  said = "".join(printed).encode() + server.client.get("/metrics")[2]
  return wire, keys, [said, *written]


def test_neither_a_key_nor_a_plain_block_leaves_the_client(watched, tmp_path):
  wire, keys, written = watched
  uploads, answers = wire.pictures()
  assert len(keys) == len(uploads) == len(answers) == 2
  seen = [bytes(wire.crossed), *written,
          *(each.tobytes() for each in uploads + answers)]
  for key in keys:
    for spelt in spellings(key):
      assert not any(spelt in each.lower() for each in seen), spelt
  for word in ("one.png", "two.png", str(tmp_path)):
    assert word.encode() not in bytes(wire.crossed)

  def blocks(pixels):
    height, width = (side // BLOCK * BLOCK for side in pixels.shape[:2])
    whole = split(pixels[None, :height, :width], BLOCK)[0]
    return [each.tobytes() for each in whole]

  sent = {each for pixels in uploads for each in blocks(pixels)}
  same = {
      each for name in SIZES
      for each in blocks(np.asarray(Image.open(tmp_path / name)))
  } & sent
  assert same == {bytes([77]) * BLOCK**2 * 3}


def test_labels_are_those_of_mode_predict_on_the_same_weights(
    watched, server, tmp_path
):
  code = main(["encrypt", str(tmp_path / "in"), str(tmp_path / "encrypted"),
               f"--block={BLOCK}"])
  assert code == 0
  found = set()
  for name in SIZES:
    encrypted = tmp_path / name.replace("in", "encrypted", 1)
    config = server.config.copy_and_resolve_references()
    config.predict.update(dir=str(encrypted.parent), scheme="")
    prediction.predict(config, server.folder)
    expected = np.asarray(Image.open(
        server.folder / "predict" / f"{encrypted.stem}_ids.png"
    ))
    labels = np.asarray(Image.open(
        tmp_path / name.replace("in", "out/labels", 1)
    ))
    np.testing.assert_array_equal(labels, expected)
    found |= set(labels.ravel().tolist())
  assert len(found) > 1


def test_the_canonical_form_gets_the_very_labels_of_a_ciphertext(
    watched, server, tmp_path
):
  code = main(["segment", str(tmp_path / "in"), str(tmp_path / "form"),
               f"--server=http://127.0.0.1:{server.client.port}", "--form"])
  assert code == 0
  for name in SIZES:
    ours, form = (
        np.asarray(Image.open(tmp_path / name.replace("in", at, 1)))
        for at in ("out/labels", "form/labels")
    )
    np.testing.assert_array_equal(ours, form)
