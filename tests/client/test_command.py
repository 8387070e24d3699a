"""The client's command line, used as a person would."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from ppseg_jax import pictures, viz
from ppseg_jax.client import files, folders
from ppseg_jax.encryption import (
    SCHEMES,
    canonical,
    decrypt,
    encrypt,
    fresh_keys,
)
from ppseg_jax.encryption.blocks import split
from ppseg_jax.errors import UserError
from tests.client.helpers import (
    NAMES,
    SIZE,
    decrypt_all,
    encrypt_all,
    entries,
    grey,
    pixels,
    save,
)
from tests.helpers import ROOT, photo


def is_inverted(scheme):
  key, image = fresh_keys(1)[0], photo(8, 8)
  try:
    again = decrypt(scheme, key, encrypt(scheme, key, image, 8), 8)
  except UserError:
    return False
  return np.array_equal(again, image)


@pytest.mark.parametrize("scheme", [
    name for name in SCHEMES if name != "hao2025_mix"  # which has no key
])
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


def test_a_stopped_run_goes_on_and_keeps_every_key(client, place, monkeypatch):
  write = files.Output.write

  def killed(self, name, content):
    if name.name == "two.png":
      raise KeyboardInterrupt
    return write(self, name, content)

  monkeypatch.setattr(files.Output, "write", killed)
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
    (["show", "@in/one.png", "@in/one.png"], ["exists"]),
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


def test_a_recompressed_ciphertext_is_known_by_its_name(client, place):
  save(place / "in" / "odd.png", photo(19, 37, 3))
  encrypt_all(client)
  # An older key of the same name, of a run stopped before it wrote.
  lines = (place / "keys").read_text().splitlines()
  old = json.loads(lines[-1]) | {"key": "0" * 32, "sha256": "0" * 64}
  (place / "keys").write_text(
      "\n".join([*lines, json.dumps(old)]) + "\n"
  )
  for path in (place / "out").rglob("*.png"):
    before = path.read_bytes()
    with Image.open(path) as image:
      image.load()
    image.save(path, compress_level=1)  # its text fields are gone as well
    assert path.read_bytes() != before
  code, _, err = decrypt_all(client)
  assert code == 0, err
  for name, plain in (("odd.png", photo(19, 37, 3)), ("grey.png", grey())):
    np.testing.assert_array_equal(pixels(place / "back" / name), plain)
  code, out, err = decrypt_all(client)
  assert code == 0 and "0 picture(s) decrypted, 4 done before" in out, err


def test_restored_pictures_are_readable_by_their_owner_alone(client, place):
  encrypt_all(client)
  before = os.umask(0)
  try:
    assert decrypt_all(client)[0] == 0
  finally:
    os.umask(before)
  for path in (place / "back", *(place / "back").rglob("*")):
    mode = 0o700 if path.is_dir() else 0o600
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("planted", ["more", "one.png"])
def test_links_in_the_output_folder_are_named_and_not_followed(
    client, place, planted
):
  (place / "out").mkdir()
  (place / "elsewhere").mkdir()
  (place / "out" / planted).symlink_to(place / "elsewhere" / "x"
                                       if "." in planted else
                                       place / "elsewhere")
  code, out, err = client("encrypt", "@in", "@out", "--block=8")
  assert code == 1 and err.count("\n") == 1 and "is a link" in err
  assert "2 picture(s) encrypted, 1 refused" in out
  assert not list((place / "elsewhere").iterdir())


@pytest.mark.parametrize("number, code", [
    (signal.SIGTERM, 143), (signal.SIGINT, 130),
])
def test_a_signal_stops_the_command_and_its_settings_with_it(
    client, place, monkeypatch, number, code
):
  handler = lambda *_: None
  before = signal.signal(signal.SIGTERM, handler)
  # Workers of pytest-xdist ignore it.
  interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
  write = files.Output.write

  def stopped(self, name, content):
    if name.name == "one.png":
      signal.raise_signal(number)
    return write(self, name, content)

  try:
    with monkeypatch.context() as patch:
      patch.setattr(files.Output, "write", stopped)
      errors = sys.stdout.errors
      found, _, err = client(
          "encrypt", "@in", "@out", "--block=8", "--keys=@keys"
      )
      assert sys.stdout.errors == errors
    assert found == code and "stopped" in err and err.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) is handler
  finally:
    signal.signal(signal.SIGTERM, before)
    signal.signal(signal.SIGINT, interrupt)
  assert sorted(p.name for p in (place / "out").rglob("*.*")) == [
      "grey.png", "two.png"
  ]
  assert "1 picture(s) encrypted, 2 done before" in encrypt_all(client)


def test_the_command_runs_in_any_thread(client, place):
  codes = []
  thread = threading.Thread(
      target=lambda: codes.append(client("encrypt", "@in", "@out", "--help"))
  )
  thread.start()
  thread.join()
  assert codes[0][0] == 0


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
      "  kind = 77\n"
      "  def encrypt(self, stream, blocks, grid, top=255):\n"
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


def test_a_level_is_all_that_is_encrypted_and_takes_no_key_file(client, place):
  code, out, err = client("encrypt", "@in", "@out", "--block=8", "--level=q4")
  assert code == 0, err
  assert "the means of 4 groups" in out
  found = canonical("blockwise", pixels(place / "out" / "one.png"), 8)
  image = pictures.pad(photo(*SIZE, 1), 8)
  np.testing.assert_array_equal(found, canonical("blockwise_q4", image, 8))
  code, _, err = client(
      "encrypt", "@in", "@out2", "--level=q4", "--keys=@keys"
  )
  assert code == 2 and "which no key brings back" in err
  code, _, err = client(
      "encrypt", "@in", "@out2", "--scheme=hao2025_mix", "--keys=@keys"
  )
  assert code == 2 and "which no key brings back" in err
  code, mixed, _ = client("encrypt", "@in", "@mixed", "--scheme=hao2025_mix")
  assert code == 0 and "forgotten" in out and "forgotten" not in mixed
  code, _, err = client("encrypt", "@in", "@out2", "--level=4q")
  assert code == 2 and "must be like q4" in err


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

  monkeypatch.setattr(os, "write", full)
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
    assert command == "show" or "size is no multiple" in words
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


def test_show_has_every_level_as_it_is_sent_and_as_it_is_restored(
    client, place
):
  code, out, err = client(
      "show", "@in/one.png", "@levels.png", "--block=8", "--levels=q4,q1"
  )
  assert code == 0 and "at each level" in out, err
  with Image.open(place / "levels.png") as sheet:
    half = (sheet.height - 8) // 2
    rows = [
        viz.split_panel(sheet.crop((0, top, sheet.width, top + half)), *SIZE)
        for top in (0, half + 8)
    ]
  (plain, *sent), (again, *restored) = rows
  image = photo(*SIZE, 1)
  np.testing.assert_array_equal(plain, image)
  np.testing.assert_array_equal(again, image)
  for picture, numbers in zip(sent, (4, 1), strict=True):
    blocks = split(picture[None], 8)[0].reshape(-1, 64, 3)
    counts = [len(np.unique(each[:, c])) for each in blocks for c in range(3)]
    assert max(counts) == numbers
  for seen, found in zip(sent, restored, strict=True):
    assert (seen != found).any() and (found != image).any()
  code, _, err = client(
      "show", "@in/one.png", "@other.png", "--block=8", "--levels=q4,x"
  )
  assert code == 2 and "level='x' must be like" in err
  code, _, err = client(
      "show", "@in/one.png", "@other.png", "--block=8", "--levels=m9999"
  )
  assert code == 2 and "squares of 9999x9999 blocks" in err
