"""One function reads a picture for every command."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ppseg_jax import pictures
from ppseg_jax.attacks import challenge
from ppseg_jax.client import __main__ as client
from ppseg_jax.errors import UserError
from tests.helpers import photo


def png_of_size(path, width, height):
  """A PNG that says so and holds nothing."""
  header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
      struct.pack(">I", len(content)) + kind + content
      + struct.pack(">I", zlib.crc32(kind + content))
      for kind, content in ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b""))
  ))


def bmp_of_size(path, width, height):
  Image.fromarray(photo(8, 8)).save(path)
  content = bytearray(path.read_bytes())
  content[18:26] = struct.pack("<ii", width, height)
  path.write_bytes(content)


BAD = {  # name -> (how it is made of an image and a path, what is said)
    "deep.png": (lambda image, path: Image.fromarray(
        np.asarray(image)[..., 0].astype(np.uint16) * 257).save(path),
        "more than 8 bits"),
    "deep.tif": (lambda image, path: Image.fromarray(
        np.asarray(image)[..., 0].astype(np.int32)).save(path),
        "more than 8 bits"),
    "float.tif": (lambda image, path: Image.fromarray(
        np.asarray(image)[..., 0].astype(np.float32)).save(path),
        "more than 8 bits"),
    "alpha.png": (lambda image, path: image.convert("RGBA").save(path),
                  "transparency"),
    "greyalpha.png": (lambda image, path: image.convert("LA").save(path),
                      "transparency"),
    "key.png": (lambda image, path: image.convert("P").save(
        path, transparency=0), "transparency"),
    "palette.png": (lambda image, path: image.convert("P").save(path),
                    "colour palette"),
    "cmyk.jpg": (lambda image, path: image.convert("CMYK").save(path), "CMYK"),
    "broken.avif": (lambda image, path: path.write_bytes(
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(40)),
        "not a readable picture"),
    "bomb.png": (lambda image, path: png_of_size(path, 20_000, 20_000),
                 "too large"),
    "huge.bmp": (lambda image, path: bmp_of_size(path, 20_000, 2_000_000),
                 "too large"),
    "none.bmp": (lambda image, path: bmp_of_size(path, 0, 8),
                 "not a readable picture"),
    "long.bmp": (lambda image, path: bmp_of_size(path, 800, 800),
                 "not a readable picture"),
    "cut.webp": (lambda image, path: path.write_bytes(b"RIFF\xff\0\0\0WEBP"),
                 "not a readable picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_would_lose_something_is_refused_by_its_path(name, tmp_path):
  make, said = BAD[name]
  make(Image.fromarray(photo(40, 48)), tmp_path / name)
  with pytest.raises(UserError, match=said) as caught:
    pictures.read_rgb(tmp_path / name)
  assert str(caught.value).startswith(f"{tmp_path / name} ")


def test_the_challenge_and_show_refuse_it_in_one_line(tmp_path, capsys):
  (tmp_path / "in").mkdir()
  for i in range(4):  # with the bad one, one for each level of the challenge
    Image.fromarray(photo(40, 48)).save(tmp_path / "in" / f"sound{i}.png")
  for name in ("deep.png", "alpha.png", "broken.avif", "huge.bmp"):
    path = tmp_path / "in" / name
    BAD[name][0](Image.fromarray(photo(40, 48)), path)
    for call, words in (
        (challenge.main, ["make", f"--images={path.parent}",
                          f"--out={tmp_path / 'out'}"]),
        (client.main, ["show", str(path), str(tmp_path / "x.png")]),
    ):
      assert call(words) == 2
      err = capsys.readouterr().err
      assert err.startswith(f"error: {path} ") and err.count("\n") == 1
    path.unlink()
  assert not (tmp_path / "out").exists() and not (tmp_path / "x.png").exists()


def test_rgb_is_kept_exactly_and_grey_is_three_equal_channels(tmp_path):
  image = photo(10, 20)
  Image.fromarray(image).save(tmp_path / "x.png")
  np.testing.assert_array_equal(pictures.read_rgb(tmp_path / "x.png"), image)
  Image.fromarray(image[..., 0].copy()).save(tmp_path / "grey.png")
  grey = pictures.read_rgb(tmp_path / "grey.png")
  assert grey.shape == (10, 20, 3)
  assert (grey == image[..., :1]).all()


@pytest.mark.parametrize("orientation, seen", [
    (1, lambda x: x), (3, lambda x: np.rot90(x, 2)),
    (6, lambda x: np.rot90(x, -1)), (8, lambda x: np.rot90(x)),
    (2, lambda x: x[:, ::-1]), (5, lambda x: x.transpose(1, 0, 2)),
])
def test_pictures_are_read_as_they_are_looked_at(tmp_path, orientation, seen):
  image = Image.fromarray(photo(10, 20))
  exif = image.getexif()
  exif[0x0112] = orientation
  image.save(tmp_path / "x.png", exif=exif)
  np.testing.assert_array_equal(
      pictures.read_rgb(tmp_path / "x.png"), seen(photo(10, 20))
  )


def test_an_orientation_behind_the_pixels_of_a_png_counts(tmp_path):
  image = Image.fromarray(photo(10, 20))
  exif = image.getexif()
  exif[0x0112] = 6
  image.save(tmp_path / "x.png", exif=exif)
  content = (tmp_path / "x.png").read_bytes()
  at = content.index(b"eXIf") - 4
  size = 12 + int.from_bytes(content[at : at + 4], "big")
  end = content.index(b"IEND") - 4
  (tmp_path / "x.png").write_bytes(
      content[:at] + content[at + size : end] + content[at : at + size]
      + content[end:]
  )
  np.testing.assert_array_equal(
      pictures.read_rgb(tmp_path / "x.png"), np.rot90(photo(10, 20), -1)
  )


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_png_files_are_read_as_pillow_reads_them_or_refused(data):
  """Whole ones always; a damaged one never gives other pixels."""
  height, width, channels = (data.draw(st.integers(1, 40)),
                             data.draw(st.integers(1, 40)),
                             data.draw(st.sampled_from([(), (3,)])))
  rng = np.random.default_rng(data.draw(st.integers(0, 9)))
  pixels = rng.integers(0, 256, (height, width, *channels)).astype(np.uint8)
  pixels[: height // 2] = 7
  file = io.BytesIO()
  Image.fromarray(pixels).save(
      file, "PNG", compress_level=data.draw(st.sampled_from([0, 1, 6]))
  )
  content = bytearray(file.getvalue())
  damaged = data.draw(st.booleans())
  if damaged:
    content[data.draw(st.integers(8, len(content) - 1))] ^= 1 << data.draw(
        st.integers(0, 7))
  try:
    found = pictures.read_picture(io.BytesIO(content))
  except UserError:
    assert damaged
    return
  np.testing.assert_array_equal(found.squeeze(), pixels.squeeze())


@pytest.mark.parametrize("name, options, lossy", [
    ("x.png", {}, False), ("x.bmp", {}, False), ("x.jpg", {}, True),
    ("x.tif", {}, False), ("x.tif", {"compression": "tiff_lzw"}, False),
    ("x.tif", {"compression": "jpeg"}, True),
    ("x.webp", {}, True), ("x.webp", {"lossless": True}, False),
    ("x.webp", {"lossless": True, "icc_profile": b"odd"}, False),
    ("x.webp", {"icc_profile": b"VP8L"}, True),
])
def test_lossy_files_are_told_from_others(tmp_path, name, options, lossy):
  Image.fromarray(photo(16, 16)).save(tmp_path / name, **options)
  assert pictures.is_lossy(tmp_path / name) == lossy


def test_films_and_data_are_no_pictures_whatever_they_begin_with(tmp_path):
  for name, start in (("a.mpg", b"\0\0\1\xb3" + bytes(20)),
                      ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(20)),
                      ("a.pdf", b"%PDF-1.7\n"), ("a.txt", b"hello")):
    (tmp_path / name).write_bytes(start)
  Image.fromarray(photo(8, 8)).save(tmp_path / "no_suffix", format="PNG")
  (tmp_path / "empty.jpg").write_bytes(b"")
  (tmp_path / ".hidden.png").write_bytes(b"")
  (tmp_path / "folder.png").mkdir()
  found, others = pictures.list_pictures(tmp_path)
  assert [path.name for path in found] == ["empty.jpg", "no_suffix"]
  assert others == [".hidden.png", "a.h5", "a.mpg", "a.pdf", "a.txt",
                    "folder.png/"]
