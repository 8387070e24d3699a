"""Pictures of requests: what of them is looked at, and what is taken."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from ppseg_jax.server import upload
from ppseg_jax.server.refusal import Refused
from tests.helpers import photo
from tests.server.helpers import chunk, png

PIXELS = photo(16, 24)
BODY = png(PIXELS)


def read(body):
  size = upload.size_of(body)
  pixels = upload.decode(body)
  assert pixels.shape == (*size, 3) and pixels.dtype == np.uint8
  return pixels


@pytest.mark.parametrize("level", [0, 9])
@pytest.mark.parametrize("grey", [False, True])
def test_pixels_come_as_they_were_sent(level, grey):
  pixels = PIXELS[..., 0] if grey else PIXELS
  info = PngImagePlugin.PngInfo()
  info.add_text("ppseg_jax.scheme", "blockwise")
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "PNG", pnginfo=info, compress_level=level)
  expected = np.repeat(pixels[..., None], 3, -1) if grey else pixels
  np.testing.assert_array_equal(read(file.getvalue()), expected)


@given(st.integers(0, len(BODY) - 1))
def test_what_is_cut_short_is_refused(end):
  with pytest.raises(Refused):
    read(BODY[:end])


@settings(deadline=None)
@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_changed_byte_never_changes_a_pixel(at, change):
  body = bytearray(BODY)
  body[at] ^= change
  try:
    found = read(bytes(body))
  except Refused as refused:
    assert refused.status in (400, 415)
  else:
    np.testing.assert_array_equal(found, PIXELS)


@given(st.binary(max_size=200))
def test_anything_else_is_refused(body):
  for start in (b"", BODY[:8], BODY[:33]):
    with pytest.raises(Refused):
      read(start + body)


def test_text_and_profiles_are_never_unpacked(monkeypatch):
  """20 MB each, once they are."""
  bomb = zlib.compress(bytes(20_000_000), 9)
  unpacked = []
  decompressed = zlib.decompressobj

  def watch(*args):
    unpacked.append(args)
    return decompressed(*args)

  monkeypatch.setattr(zlib, "decompressobj", watch)
  more = (chunk(b"zTXt", b"a\0\0" + bomb) + chunk(b"iCCP", b"a\0\0" + bomb)
          + chunk(b"iTXt", b"a\0\1\0\0\0" + bomb))
  np.testing.assert_array_equal(read(BODY[:33] + more + BODY[33:]), PIXELS)
  assert not unpacked


def test_pixels_beyond_the_header_s_are_not_unpacked():
  """A picture of 16 x 24 with 30 MB behind its last row."""
  rows = bytes(16 * (1 + 24 * 3)) + bytes(30_000_000)
  body = BODY[:33] + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
  try:
    pixels = read(body)
  except Refused as refused:
    assert refused.status == 400
  else:
    assert not pixels.any()


def test_a_body_of_endless_chunks_is_refused():
  body = BODY[:33] + chunk(b"teXt", b"") * 20_000 + BODY[33:]
  with pytest.raises(Refused, match="damaged"):
    read(body)
