"""Label files: ids as the file holds them, or refused with what it holds."""

import numpy as np
import pytest
from PIL import Image

from ppseg_jax.data.label_files import Palettes, read_labels
from ppseg_jax.errors import UserError

IDS = np.arange(12, dtype=np.uint8).reshape(3, 4)
COLOURS = bytes(range(36))


def palette_file(path, colours, ids=IDS, **options):
  image = Image.fromarray(ids, "P")
  image.putpalette(colours)
  image.save(path, **options)
  return path


@pytest.mark.parametrize("bits", [4, 8])
def test_palette_files_are_read_by_index(tmp_path, bits):
  path = palette_file(tmp_path / "x.png", COLOURS, bits=bits)
  ids, palette = read_labels(path)
  np.testing.assert_array_equal(ids, IDS)
  assert palette == COLOURS


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_grey_files_are_read_by_value(tmp_path, suffix):
  ids = IDS.copy()
  ids[0] = 255
  Image.fromarray(ids).save(tmp_path / f"x.{suffix}")
  got, palette = read_labels(tmp_path / f"x.{suffix}")
  np.testing.assert_array_equal(got, ids)
  assert palette is None


@pytest.mark.parametrize("name, save, said", [
    ("x.png", lambda path: Image.fromarray(IDS).save(path, bits=4),
     "4-bit grey, whose ids are read as multiples of 17"),
    ("x.png", lambda path: Image.fromarray(IDS % 4).save(path, bits=2),
     "2-bit grey, whose ids are read as multiples of 85"),
    ("x.png", lambda path: Image.fromarray(IDS % 2 > 0).save(path),
     "one bit a pixel"),
    ("x.png", lambda path: Image.fromarray(IDS.astype(np.uint16)).save(path),
     "16 bits a pixel"),
    ("x.png", lambda path: Image.fromarray(IDS).convert("RGB").save(path),
     "give each colour its id"),
    ("x.png", lambda path: Image.fromarray(IDS).convert("LA").save(path),
     "mode LA"),
    ("x.jpg", lambda path: Image.fromarray(IDS).save(path), "lossy JPEG"),
    ("x.gif", lambda path: Image.fromarray(IDS).save(path), "is a GIF file"),
    ("x.png", lambda path: path.write_bytes(b"?"), "not a readable"),
    ("x.png", lambda path: None, "is missing"),
])
def test_files_that_do_not_hold_ids_as_they_are_are_refused(
    tmp_path, name, save, said
):
  save(tmp_path / name)
  with pytest.raises(UserError, match=said) as caught:
    read_labels(tmp_path / name)
  assert str(caught.value).startswith(f"{tmp_path / name} ")


def test_the_conversions_that_are_told_give_the_ids(tmp_path):
  path = tmp_path / "x.png"
  Image.fromarray(IDS).save(path, bits=4)
  with Image.open(path) as image:
    np.testing.assert_array_equal(np.asarray(image) // 17, IDS)
  Image.fromarray(IDS % 2 > 0).save(path)
  with Image.open(path) as image:
    np.testing.assert_array_equal(np.asarray(image).astype("uint8"), IDS % 2)


def test_palettes_agree_where_both_have_a_colour(tmp_path):
  palettes = Palettes()
  short, long = COLOURS[:6], COLOURS
  other = long[:-3] + b"\0\0\0"
  for colours in (short, None, long, short):
    palettes.check(tmp_path / "a.png", colours)
  with pytest.raises(UserError, match="b.png has another .* index 11 is"):
    palettes.check(tmp_path / "b.png", other)
