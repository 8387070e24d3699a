"""Which pictures are taken, and what of them is kept."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ppseg_jax import pictures
from ppseg_jax.encryption import canonical
from ppseg_jax.errors import UserError
from tests.client.helpers import (
    SIZE,
    decrypt_all,
    encrypt_all,
    grey,
    pixels,
    save,
)
from tests.helpers import photo


def test_odd_sizes_are_padded_said_so_and_cut_off_again(client, place):
  odd = photo(19, 37, 3)
  save(place / "in" / "odd.png", odd)
  printed = encrypt_all(client)
  assert "padded (1)" in printed and "finer than a block" in printed
  cipher = pixels(place / "out" / "odd.png")
  assert cipher.shape == (24, 40, 3)
  form = canonical("blockwise", cipher, 8)
  # The corner: the picture's last 8x8 pixels, each once.
  np.testing.assert_array_equal(
      form[-1], canonical("blockwise", odd[-8:, -8:], 8)[0]
  )
  # The block above it: of whole rows, and the last 8 columns.
  np.testing.assert_array_equal(
      form[9], canonical("blockwise", odd[8:16, -8:], 8)[0]
  )
  assert decrypt_all(client)[0] == 0
  np.testing.assert_array_equal(pixels(place / "back" / "odd.png"), odd)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9))
def test_padding_keeps_the_picture_and_fills_by_whole_windows(
    height, width, block
):
  picture = np.arange(height * width).reshape(height, width, 1)
  padded = pictures.pad(picture, block)
  np.testing.assert_array_equal(padded[:height, :width], picture)
  down, right = padded.shape[:2]
  assert down - height < block and right - width < block
  assert down % block == right % block == 0
  corner = np.sort(padded[-block:, -block:], axis=None)
  window = picture[-block:, -block:]
  if min(height, width) >= block:  # every pixel once
    np.testing.assert_array_equal(corner, np.sort(window, axis=None))
  else:
    np.testing.assert_array_equal(np.unique(corner), np.unique(window))


def test_no_pad_refuses_odd_sizes_by_name_and_does_the_others(client, place):
  save(place / "in" / "odd.png", photo(19, 37, 3))
  code, out, err = client("encrypt", "@in", "@out", "--block=8", "--no-pad")
  assert code == 1 and err.startswith("error: odd.png: ")
  assert err.count("\n") == 1 and "37x19" in err and "--no-pad" in err
  assert "3 picture(s) encrypted, 1 refused" in out
  assert not (place / "out" / "odd.png").exists()
  assert (place / "out" / "one.png").exists()


def test_files_that_are_no_pictures_are_skipped_and_named(client, place):
  (place / "in" / "notes.txt").write_text("hello")
  (place / "in" / "more" / "data.bin").write_bytes(os.urandom(100))
  (place / "in" / ".hidden").write_text("hello")
  (place / "in" / "loop").symlink_to(place / "in")
  (place / "in" / "gone.png").symlink_to("nowhere")
  (place / "in" / "circle").symlink_to("circle")
  os.mkfifo(place / "in" / "pipe.png")  # to open it would wait for ever
  out = encrypt_all(client)
  assert ("not a picture (6): circle, gone.png, loop, more/data.bin, notes.txt,"
          " pipe.png") in out


def sixteen_bit_png(path):
  """A 16-bit RGB PNG by hand; Pillow writes none."""
  def chunk(kind, data):
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

  row = b"\0" + np.arange(24, dtype=">u2").tobytes()
  path.write_bytes(
      b"\x89PNG\r\n\x1a\n"
      + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
      + chunk(b"IDAT", zlib.compress(row * 8)) + chunk(b"IEND", b"")
  )


def test_pictures_that_could_not_come_back_exactly_are_refused_by_name(
    client, place
):
  image = Image.fromarray(photo(*SIZE))
  folder = place / "in"
  image.convert("RGBA").save(folder / "alpha.png")
  image.convert("P").save(folder / "palette.png")
  image.convert("1").save(folder / "bit.png")
  image.convert("CMYK").save(folder / "cmyk.jpg")
  image.convert("P").save(folder / "anim.gif")
  image.save(folder / "key.png", transparency=(1, 2, 3))
  image.save(folder / "pages.tif", save_all=True, append_images=[image])
  Image.fromarray(grey().astype(np.uint16)).save(folder / "deep.png")
  sixteen_bit_png(folder / "deeprgb.png")
  whole = (folder / "one.png").read_bytes()
  (folder / "cut.png").write_bytes(whole[:len(whole) // 2])
  (folder / "empty.jpg").write_bytes(b"")
  code, out, err = client("encrypt", "@in", "@out", "--block=8")
  reasons = dict(
      line.removeprefix("error: ").split(": ", 1) for line in err.splitlines()
  )
  expected = {
      "alpha.png": "transparency", "palette.png": "palette",
      "bit.png": "one bit", "cmyk.jpg": "CMYK", "anim.gif": "GIF",
      "key.png": "transparency", "pages.tif": "several",
      "deep.png": "more than 8 bits", "deeprgb.png": "more than 8 bits",
      "cut.png": "not a readable", "empty.jpg": "not a readable",
  }
  assert code == 1 and reasons.keys() == expected.keys()
  for name, reason in expected.items():
    assert reason in reasons[name]
  assert "3 picture(s) encrypted, 11 refused" in out
  assert len(list((place / "out").rglob("*.*"))) == 3


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp", "bmp"])
def test_damaged_pictures_end_in_a_sentence_or_in_values(tmp_path, kind):
  file = io.BytesIO()
  Image.fromarray(photo(*SIZE)).save(file, kind)
  rng = np.random.default_rng(0)
  path = tmp_path / f"x.{kind}"
  refused = 0
  for _ in range(60):
    content = np.frombuffer(file.getvalue(), np.uint8).copy()
    content[rng.integers(0, len(content), 5)] = rng.integers(0, 256, 5)
    path.write_bytes(content[: rng.integers(1, len(content) + 1)].tobytes())
    try:
      values = pictures.read_picture(path)
      assert values.dtype == np.uint8 and values.shape[2] in (1, 3)
    except UserError:
      refused += 1
  assert refused > 10


def test_exif_orientation_is_applied_and_no_metadata_is_passed_on(
    client, place
):
  image = Image.fromarray(photo(40, 24, 5))
  exif = image.getexif()
  exif[0x0112] = 6  # turned
  exif[0x010E] = "at home"
  image.save(place / "in" / "turned.png", exif=exif)
  encrypt_all(client)
  with Image.open(place / "out" / "turned.png") as cipher:
    assert cipher.size == (40, 24) and not cipher.getexif()
  assert b"at home" not in (place / "out" / "turned.png").read_bytes()
  assert decrypt_all(client)[0] == 0
  np.testing.assert_array_equal(
      pixels(place / "back" / "turned.png"),
      np.rot90(photo(40, 24, 5), -1),
  )


@pytest.mark.parametrize("field, value, reason", [
    ("format", "2", "newer version"), ("size", "999x999", "another size"),
    ("size", "big", "damaged"), ("block", "0", "another size"),
])
def test_text_fields_that_make_no_sense_are_refused(
    tmp_path, field, value, reason
):
  fields = {"format": "1", "scheme": "blockwise", "block": "8",
            "size": "40x24"} | {field: value}
  text = pictures.PngImagePlugin.PngInfo()
  for key, item in fields.items():
    text.add_text(f"ppseg_jax.{key}", item)
  Image.fromarray(photo(*SIZE)).save(tmp_path / "x.png", pnginfo=text)
  with pytest.raises(ValueError, match=reason):
    pictures.read_cipher(tmp_path / "x.png")


def test_a_picture_of_fewer_bits_is_refused_and_not_spread_to_eight(tmp_path):
  image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
  image.save(tmp_path / "four.png", bits=4)
  with pytest.raises(UserError, match="fewer than 8 bits"):
    pictures.read_picture(tmp_path / "four.png")
