"""The client's command line, used as a person would."""

import hashlib
import io
import json
import os
import stat
import struct
import subprocess
import sys
import zlib

import jax
import numpy as np
import pytest
from PIL import Image

from ppseg_jax.client import files, folders, keyfile, pictures
from ppseg_jax.client.__main__ import main
from ppseg_jax.encryption import (
    SCHEMES,
    canonical,
    decrypt,
    encrypt,
    fresh_keys,
)
from ppseg_jax.errors import UserError
from tests.helpers import ROOT, photo

SIZE = (24, 40)  # few sizes, so that few programs are compiled


def save(path, pixels, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path, **options)


def pixels(path):
  with Image.open(path) as image:
    return np.asarray(image)


def grey(seed=0):
  return photo(*SIZE, seed)[..., 0].copy()


@pytest.fixture
def place(tmp_path):
  """A folder `in` with a colour, a grey and, in a subfolder, a JPEG picture."""
  save(tmp_path / "in" / "one.png", photo(*SIZE, 1))
  save(tmp_path / "in" / "grey.png", grey())
  save(tmp_path / "in" / "more" / "two.jpg", photo(*SIZE, 2))
  return tmp_path


NAMES = ("grey.png", "more/two.png", "one.png")


@pytest.fixture
def client(place, capsys):
  """Calls the command line in `place`; (exit code, stdout, stderr)."""
  def call(*args):
    words = [
        word if word.startswith("--") and "keys" not in word
        else word.replace("@", f"{place}/") for word in args
    ]
    try:
      code = main(words)
    except SystemExit as stop:
      code = stop.code
    out, err = capsys.readouterr()
    return code, out, err

  return call


def encrypt_all(client, *args):
  code, out, err = client(
      "encrypt", "@in", "@out", "--block=8", "--keys=@keys", *args
  )
  assert code == 0, err
  return out


def decrypt_all(client, out="@back"):
  return client("decrypt", "@out", out, "--keys=@keys")


def entries(place):
  return [json.loads(line)
          for line in (place / "keys").read_text().splitlines()[1:]]


def is_inverted(scheme):
  key, image = fresh_keys(1)[0], photo(8, 8)
  try:
    again = decrypt(scheme, key, encrypt(scheme, key, image, 8), 8)
  except UserError:
    return False
  return np.array_equal(again, image)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_decrypt_gives_back_the_very_pixels(client, place, scheme):
  sources = ["more/two.jpg", "one.png"]
  if scheme == "blockwise":  # grey is one more program to compile
    sources.append("grey.png")
  else:
    (place / "in" / "grey.png").unlink()
  code, _, err = client("encrypt", "@in", "@out", "--block=8", "--keys=@keys",
                        f"--scheme={scheme}")
  if not is_inverted(scheme):
    assert code == 1 and err.count("\n") == len(sources)
    assert not list((place / "out").rglob("*.png"))
    return
  assert code == 0, err
  code, _, err = decrypt_all(client)
  assert code == 0, err
  for source in sources:
    name = source.replace("jpg", "png")
    header = pictures.read_header(place / "out" / name)
    assert header == pictures.Header(scheme, 8, SIZE[1], SIZE[0])
    np.testing.assert_array_equal(
        pixels(place / "back" / name), pixels(place / "in" / source)
    )


def test_a_ciphertext_is_what_encrypt_makes_under_the_key_of_the_key_file(
    client, place
):
  encrypt_all(client)
  for entry in entries(place):
    path = place / "out" / entry["name"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
  entry = next(e for e in entries(place) if e["name"] == "one.png")
  expected = encrypt(
      "blockwise", keyfile.from_hex(entry["key"]), photo(*SIZE, 1), 8
  )
  np.testing.assert_array_equal(pixels(place / "out/one.png"), expected)


def test_odd_sizes_are_padded_by_their_edge_and_cut_off_again(client, place):
  odd = photo(19, 37, 3)
  save(place / "in" / "odd.png", odd)
  encrypt_all(client)
  cipher = pixels(place / "out" / "odd.png")
  assert cipher.shape == (24, 40, 3)
  padded = np.pad(odd, ((0, 5), (0, 3), (0, 0)), mode="edge")
  np.testing.assert_array_equal(
      canonical("blockwise", cipher, 8), canonical("blockwise", padded, 8)
  )
  assert decrypt_all(client)[0] == 0
  np.testing.assert_array_equal(pixels(place / "back" / "odd.png"), odd)


def test_no_pad_refuses_odd_sizes_by_name_and_does_the_others(client, place):
  save(place / "in" / "odd.png", photo(19, 37, 3))
  code, out, err = client("encrypt", "@in", "@out", "--block=8", "--no-pad")
  assert code == 1 and err.startswith("error: odd.png: ")
  assert err.count("\n") == 1 and "37x19" in err and "--no-pad" in err
  assert "3 picture(s) encrypted, 1 refused" in out
  assert not (place / "out" / "odd.png").exists()
  assert (place / "out" / "one.png").exists()


def test_every_picture_has_a_key_of_its_own_and_so_has_every_run(client, place):
  encrypt_all(client)
  client("encrypt", "@in", "@out2", "--block=8", "--keys=@keys2")
  keys = {e["key"] for e in entries(place)} | {
      json.loads(line)["key"]
      for line in (place / "keys2").read_text().splitlines()[1:]
  }
  assert len(keys) == 6


def test_a_key_survives_its_text_form():
  key = fresh_keys(1)[0]
  digits = keyfile.to_hex(key)
  again = keyfile.from_hex(digits)
  assert len(digits) == 32 and again.dtype == key.dtype
  np.testing.assert_array_equal(
      jax.random.key_data(again), jax.random.key_data(key)
  )


def test_keys_are_in_the_key_file_alone_and_its_mode_is_0600(client, place):
  before = os.umask(0)
  try:
    printed = encrypt_all(client)
  finally:
    os.umask(before)
  assert stat.S_IMODE((place / "keys").stat().st_mode) == 0o600
  parsed = keyfile.read(place / "keys")
  assert {entry.name for entry in parsed} == set(NAMES)
  for entry in parsed:
    assert entry.key not in printed and entry.key not in repr(entry)
    words = bytes.fromhex(entry.key)
    for path in (place / "out").rglob("*.png"):
      content = path.read_bytes()
      assert entry.key.encode() not in content
      assert words not in content and words[::-1] not in content


def test_the_key_file_is_private_before_anything_is_in_it(place, monkeypatch):
  modes = []
  write = os.write

  def seen(fd, data):
    modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
    return write(fd, data)

  before = os.umask(0)
  monkeypatch.setattr(os, "write", seen)
  try:
    keyfile.KeyFile(place / "keys", place / "out").close()
  finally:
    os.umask(before)
  assert modes == [0o600]


def test_a_key_is_on_the_disk_before_its_ciphertext_appears(
    client, place, monkeypatch
):
  write = files.write_bytes

  def checked(path, content):
    digest = hashlib.sha256(content).hexdigest()
    assert digest in (place / "keys").read_text()
    write(path, content)

  monkeypatch.setattr(folders.files, "write_bytes", checked)
  encrypt_all(client)


@pytest.mark.parametrize("path", ["@out/keys", "@in/keys", "@out/deep/keys"])
def test_a_key_file_among_the_pictures_is_refused(client, place, path):
  code, _, err = client("encrypt", "@in", "@out", f"--keys={path}")
  assert code == 2 and err.count("\n") == 1 and "elsewhere" in err
  assert not (place / "out").exists()


def test_a_key_file_reached_by_a_link_among_the_pictures_is_refused(
    client, place
):
  (place / "out").mkdir()
  (place / "link").symlink_to(place / "out")
  code, _, err = client("encrypt", "@in", "@out", "--keys=@link/keys")
  assert code == 2 and "lies in OUT_DIR" in err


def test_an_existing_key_file_is_never_written_over(client, place):
  (place / "keys").write_text("a diary\n")
  for content in (
      "a diary\n", '{"ppseg_jax_keys": 1, "out": "/other"}\n', "", "[]\n",
      '{"ppseg_jax_keys": 2, "out": "/other"}\n',
  ):
    (place / "keys").write_text(content)
    code, _, err = client("encrypt", "@in", "@out", "--keys=@keys")
    assert code == 2 and err.startswith("error: --keys=")
    assert err.count("\n") == 1
    assert (place / "keys").read_text() == content
  assert not (place / "out").exists()


def test_a_link_or_an_open_key_file_is_refused(client, place):
  encrypt_all(client)
  (place / "keys").chmod(0o644)
  code, _, err = client("encrypt", "@in", "@out", "--keys=@keys")
  assert code == 2 and "chmod 600" in err
  (place / "keys").rename(place / "moved")
  (place / "keys").symlink_to(place / "moved")
  code, _, err = client("encrypt", "@in", "@out", "--keys=@keys")
  assert code == 2 and "not a regular file" in err


def test_a_stopped_run_goes_on_and_keeps_every_key(client, place, monkeypatch):
  write = files.write_bytes

  def killed(path, content):
    if path.name == "two.png":
      path.parent.mkdir()
      (path.parent / f".two.png.1{files._SUFFIX}").write_bytes(content[:50])
      raise KeyboardInterrupt
    write(path, content)

  monkeypatch.setattr(folders.files, "write_bytes", killed)
  code, _, err = client("encrypt", "@in", "@out", "--block=8", "--keys=@keys")
  assert code == 130 and "goes on" in err
  monkeypatch.undo()
  with (place / "keys").open("a") as file:
    file.write('{"name": "half a li')
  first = (place / "out" / "grey.png").read_bytes()
  printed = encrypt_all(client)
  assert "2 picture(s) encrypted, 1 done before" in printed
  assert (place / "out" / "grey.png").read_bytes() == first
  assert sorted(
      p.relative_to(place / "out").as_posix()
      for p in (place / "out").rglob("*") if p.is_file()
  ) == list(NAMES)
  code, out, err = decrypt_all(client)
  assert code == 0, err
  code, out, _ = decrypt_all(client)
  assert code == 0 and "0 picture(s) decrypted, 3 done before" in out


def test_a_resumed_run_refuses_what_is_not_its_own_work(client, place):
  encrypt_all(client)
  save(place / "in" / "one.png", photo(*SIZE, 9))
  save(place / "out" / "grey.png", grey())
  code, out, err = client(
      "encrypt", "@in", "@out", "--block=8", "--keys=@keys"
  )
  lines = err.splitlines()
  assert code == 1 and len(lines) == 2
  assert "grey.png" in lines[0] and "was not written by" in lines[0]
  assert "one.png" in lines[1] and "older picture" in lines[1]
  code, _, err = client("encrypt", "@in", "@out", "--block=4", "--keys=@keys")
  assert code == 1 and "blocks of 8" in err


def test_ciphertexts_whose_keys_were_forgotten_are_not_counted_as_done(
    client, place
):
  code, out, _ = client("encrypt", "@in", "@out", "--block=8")
  assert code == 0 and "nobody can decrypt" in out
  code, out, _ = client("encrypt", "@in", "@out", "--block=8")
  assert code == 0 and "0 picture(s) encrypted, 3 done before" in out
  code, _, err = client("encrypt", "@in", "@out", "--block=8", "--keys=@keys")
  assert code == 1 and err.count("does not hold the key") == 3


def test_files_that_are_no_pictures_are_skipped_and_named(client, place):
  (place / "in" / "notes.txt").write_text("hello")
  (place / "in" / "more" / "data.bin").write_bytes(os.urandom(100))
  (place / "in" / ".hidden").write_text("hello")
  (place / "in" / "loop").symlink_to(place / "in")
  os.mkfifo(place / "in" / "pipe.png")  # to open it would wait for ever
  out = encrypt_all(client)
  assert "not a picture (4): loop, more/data.bin, notes.txt, pipe.png" in out


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


def test_two_pictures_of_one_name_are_refused_before_anything_is_written(
    client, place
):
  for name in ("one.jpg", "ONE.png"):
    save(place / "in" / name, photo(*SIZE))
    code, _, err = client("encrypt", "@in", "@out", "--keys=@keys")
    assert code == 2 and name in err and "rename one" in err
    assert not (place / "out").exists() and not (place / "keys").exists()
    (place / "in" / name).unlink()


@pytest.mark.parametrize("args, parts", [
    (["encrypt", "@none", "@out"], ["none", "no folder"]),
    (["encrypt", "@empty", "@out"], ["holds no pictures"]),
    (["encrypt", "@in", "@in/out"], ["lie in one another"]),
    (["encrypt", "@in", "@"], ["lie in one another"]),
    (["encrypt", "@in", "@in"], ["lie in one another"]),
    (["encrypt", "@in", "@in/one.png"], ["is no folder"]),
    (["encrypt", "@in", "@out", "--scheme=rot13"], ["rot13", "blockwise"]),
    (["encrypt", "@in", "@out", "--scheme=none.py:X"], ["none.py", "Scheme"]),
    (["encrypt", "@in", "@out", "--block=0"], ["--block=0"]),
    (["encrypt", "@in", "@out", "--block=x"], ["--block", "x"]),
    (["encrypt", "@in", "@out", "--keys=@no/keys"], ["no/keys", "No such"]),
    (["encrypt", "@in"], ["OUT_DIR"]),
    (["decrypt", "@in", "@out"], ["--keys"]),
    (["decrypt", "@in", "@out", "--keys=@none"], ["none", "cannot be read"]),
    (["decrypt", "@in", "@out", "--keys=@in/one.png"], ["not a key file"]),
    (["show", "@none", "@x.png"], ["does not exist"]),
    (["show", "@in", "@in/x.png"], ["among the pictures"]),
    (["show", "@in/one.png", "@in/one.png"], ["itself"]),
    (["show", "@in", "@x.jpg"], [".png"]),
    (["melt"], ["melt"]),
    ([], ["command"]),
])
def test_bad_input_gets_one_sentence_and_exit_code_2(
    client, place, args, parts
):
  (place / "empty").mkdir()
  code, _, err = client(*args)
  assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, err
  for part in parts:
    assert part in err
  assert not (place / "out").exists()


def test_decrypt_says_of_each_file_why_it_cannot(client, place):
  encrypt_all(client)
  lines = (place / "keys").read_text().splitlines()
  save(place / "out" / "photo.png", photo(*SIZE))  # not ours
  client("encrypt", "@in/more", "@other", "--block=8")
  os.replace(place / "other" / "two.png", place / "out" / "fresh.png")
  with Image.open(place / "out" / "one.png") as image:
    info = {k: v for k, v in image.info.items() if k.startswith("ppseg")}
    tampered = np.asarray(image).copy()
  tampered[0, 0] ^= 1
  text = pictures.PngImagePlugin.PngInfo()
  for key, value in info.items():
    text.add_text(key, value)
  Image.fromarray(tampered).save(place / "out" / "one.png", pnginfo=text)
  # A wrong key for grey.png.
  edited = [lines[0]]
  for line in lines[1:]:
    entry = json.loads(line)
    if entry["name"] == "grey.png":
      entry["key"] = "0" * 32
    edited.append(json.dumps(entry))
  (place / "keys").write_text("\n".join(edited) + "\n")

  code, out, err = decrypt_all(client)
  reasons = dict(
      line.removeprefix("error: ").split(": ", 1) for line in err.splitlines()
  )
  expected = {
      "photo.png": "was not written by 'encrypt'",
      "fresh.png": "has no key of it",
      "one.png": "is not of this file",
      "grey.png": "does not open it",
  }
  assert code == 1 and reasons.keys() == expected.keys()
  for name, reason in expected.items():
    assert reason in reasons[name]
  assert "1 picture(s) decrypted, 4 refused" in out
  assert [p.name for p in (place / "back").rglob("*.*")] == ["two.png"]


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


def test_a_damaged_key_file_is_named_with_its_line(client, place):
  encrypt_all(client)
  lines = (place / "keys").read_text().splitlines()
  lines[2] = lines[2].replace('"key": "', '"key": "xyz')
  (place / "keys").write_text("\n".join(lines) + "\n")
  code, _, err = decrypt_all(client)
  assert code == 2 and "line 3 is damaged" in err
  assert not any(e["key"] in err for e in entries(place))


def test_decrypt_overwrites_no_other_picture(client, place):
  encrypt_all(client)
  code, _, err = decrypt_all(client, "@in")
  assert code == 0, err  # one.png and grey.png are there, and the same
  save(place / "in" / "one.png", photo(*SIZE, 7))
  code, _, err = decrypt_all(client, "@in")
  assert code == 1 and "is another picture" in err
  np.testing.assert_array_equal(
      pixels(place / "in" / "one.png"), photo(*SIZE, 7)
  )


def test_a_scheme_of_ones_own_works_both_ways(client, place):
  (place / "mine.py").write_text(
      "from ppseg_jax.encryption import PixelShuffle, Scheme\n"
      "MINE = Scheme(name='mine', leaks='Colours.', source='here', ops=(\n"
      "    PixelShuffle(unit='pixel', scope='block'),))\n"
      "NAMED = Scheme(name='plain', leaks='', source='', ops=MINE.ops)\n"
  )
  mine = f"--scheme={place}/mine.py:"
  assert "Colours." in encrypt_all(client, mine + "MINE")
  code, _, err = decrypt_all(client)
  assert code == 1 and "scheme 'mine'" in err
  code, _, err = client(
      "decrypt", "@out", "@back", "--keys=@keys", mine + "MINE"
  )
  assert code == 0, err
  np.testing.assert_array_equal(
      pixels(place / "back" / "one.png"), photo(*SIZE, 1)
  )
  code, _, err = client("encrypt", "@in", "@out2", mine + "NAMED")
  assert code == 2 and "of another scheme" in err


def test_a_scheme_that_loses_something_writes_nothing(client, place):
  (place / "lossy.py").write_text(
      "import dataclasses\n"
      "from ppseg_jax.encryption import Scheme\n"
      "@dataclasses.dataclass(frozen=True)\n"
      "class Halve:\n"
      "  stream = 77\n"
      "  def encrypt(self, key, blocks):\n"
      "    return blocks // 2 * 2\n"
      "  decrypt = encrypt\n"
      "LOSSY = Scheme(name='lossy', ops=(Halve(),), leaks='', source='')\n"
  )
  code, _, err = client(
      "encrypt", "@in", "@out", "--block=8", "--keys=@keys",
      f"--scheme={place}/lossy.py:LOSSY",
  )
  assert code == 1 and err.count("does not give it back exactly") == 3
  assert not list((place / "out").rglob("*")) and not entries(place)


def test_pictures_of_one_size_share_a_compiled_program(place, tmp_path):
  for i in range(4):
    save(tmp_path / "many" / f"{i}.png", photo(16, 24, i))
  before = folders._jit_encrypt._cache_size()
  folders.encrypt_folder(
      tmp_path / "many", tmp_path / "out", SCHEMES["blockwise"], 8
  )
  assert folders._jit_encrypt._cache_size() == before + 1


def test_a_full_disk_stops_the_run_in_one_sentence(client, place, monkeypatch):
  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "replace", full)
  code, _, err = client("encrypt", "@in", "@out", "--block=8")
  assert code == 2 and err.count("\n") == 1 and "No space left" in err
  assert not [p for p in (place / "out").rglob("*") if p.is_file()]


def test_help_and_a_run_say_what_is_not_protected(client, place):
  for command in ("encrypt", "show"):
    code, out, _ = client(command, "--help")
    words = " ".join(out.split())
    assert code == 0 and "not semantically secure" in words
    for scheme in SCHEMES.values():
      assert " ".join(scheme.leaks.split()) in words
  out = encrypt_all(client)
  assert SCHEMES["blockwise"].leaks in out and "not semantically secure" in out


def test_show_has_every_picture_under_every_scheme(
    client, place
):
  code, _, err = client("show", "@in/one.png", "@one.png", "--block=8")
  assert code == 0, err
  one = pixels(place / "one.png")
  code, out, err = client("show", "@in", "@all.png", "--block=8")
  assert code == 0 and "3 picture(s)" in out, err
  assert pixels(place / "all.png").shape[0] > 2.9 * one.shape[0]
  factor = 256 // 24
  width, rows = 40 * factor, -(-len(SCHEMES) // 5)
  assert one.shape[1] == min(5, len(SCHEMES)) * (width + 4) - 4
  assert one.shape[0] == rows * (24 * factor + 16 + 8) - 8
  first = one[16 : 16 + 24 * factor : factor, : width : factor]
  np.testing.assert_array_equal(first, photo(*SIZE, 1))


def test_the_command_runs_as_a_program(place):
  def call(*args):
    return subprocess.run(
        [sys.executable, "-m", "ppseg_jax.client", *args], cwd=ROOT,
        capture_output=True, text=True, timeout=300,
    )

  done = call("encrypt", str(place / "in"), str(place / "out"), "--block=8",
              f"--keys={place / 'keys'}")
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1].startswith("done: 3 picture(s)")
  done = call("decrypt", str(place / "out"), str(place / "back"))
  assert done.returncode == 2 and done.stderr.count("\n") == 1
