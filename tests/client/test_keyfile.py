"""Keys, and the file that keeps them."""

import hashlib
import json
import os
import stat

import jax
import numpy as np
import pytest

from ppseg_jax.client import files, keyfile
from ppseg_jax.encryption import encrypt, fresh_keys
from ppseg_jax.errors import UserError
from tests.client.helpers import (
    NAMES,
    SIZE,
    decrypt_all,
    encrypt_all,
    entries,
    pixels,
    save,
)
from tests.helpers import photo


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
  write = files.Output.write

  def checked(self, name, content):
    digest = hashlib.sha256(content).hexdigest()
    assert digest in (place / "keys").read_text()
    return write(self, name, content)

  monkeypatch.setattr(files.Output, "write", checked)
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


def test_ciphertexts_whose_keys_were_forgotten_are_not_counted_as_done(
    client, place
):
  code, out, _ = client("encrypt", "@in", "@out", "--block=8")
  assert code == 0 and "nobody can decrypt" in out
  code, out, _ = client("encrypt", "@in", "@out", "--block=8")
  assert code == 0 and "0 picture(s) encrypted, 3 done before" in out
  code, _, err = client("encrypt", "@in", "@out", "--block=8", "--keys=@keys")
  assert code == 1 and err.count("does not hold the key") == 3


def test_a_damaged_key_file_is_named_with_its_line(client, place):
  encrypt_all(client)
  lines = (place / "keys").read_text().splitlines()
  lines[2] = lines[2].replace('"key": "', '"key": "xyz')
  (place / "keys").write_text("\n".join(lines) + "\n")
  code, _, err = decrypt_all(client)
  assert code == 2 and "line 3 is damaged" in err
  assert not any(e["key"] in err for e in entries(place))


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


def test_a_key_whose_line_lost_its_end_is_kept_on_going_on(client, place):
  encrypt_all(client)
  path = place / "keys"
  before = path.read_bytes()
  path.write_bytes(before[:-1])
  assert len(keyfile.read(path)) == 3
  encrypt_all(client)
  assert path.read_bytes() == before
  path.write_bytes(before + b'{"name": "half')
  encrypt_all(client)
  assert path.read_bytes() == before


def test_a_key_file_of_a_run_killed_before_it_wrote_is_taken(client, place):
  (place / "keys").touch(0o600)
  encrypt_all(client)
  assert len(keyfile.read(place / "keys")) == 3


def test_two_commands_at_once_leave_each_ciphertext_its_key_in_one_file(
    client, place, monkeypatch
):
  """The second one runs whole just before the first one writes a picture."""
  add = keyfile.KeyFile.add

  def meanwhile(self, entry):
    monkeypatch.setattr(keyfile.KeyFile, "add", add)
    add(self, entry)
    code, out, err = client(
        "encrypt", "@in", "@out", "--block=8", "--keys=@keys2"
    )
    assert code == 0 and "3 picture(s) encrypted" in out, err

  monkeypatch.setattr(keyfile.KeyFile, "add", meanwhile)
  code, _, err = client("encrypt", "@in", "@out", "--block=8", "--keys=@keys")
  assert code == 1 and err.count("does not hold the key of its file") == 3
  first, second = (keyfile.read(place / name) for name in ("keys", "keys2"))
  assert len({entry.key for entry in first + second}) == 4
  for name in NAMES:
    digest = hashlib.sha256((place / "out" / name).read_bytes()).hexdigest()
    assert digest in {entry.sha256 for entry in second}
    assert digest not in {entry.sha256 for entry in first}


def test_keys_of_a_run_that_ended_meanwhile_are_known(place, monkeypatch):
  """Read under the lock, not before it."""
  out = place / "out"
  entry = keyfile.Entry("a.png", "plain", 8, "0" * 32, "1", "2")
  keyfile.KeyFile(place / "keys", out).close()
  lock = keyfile.KeyFile._lock

  def meanwhile(self, path):
    monkeypatch.setattr(keyfile.KeyFile, "_lock", lock)
    with keyfile.KeyFile(path, out) as other:
      other.add(entry)
    lock(self, path)

  monkeypatch.setattr(keyfile.KeyFile, "_lock", meanwhile)
  with keyfile.KeyFile(place / "keys", out) as keeper:
    assert keeper.entries == {"1": entry}


def test_a_key_file_without_sizes_still_opens_its_pictures(client, place):
  save(place / "in" / "odd.png", photo(19, 37, 3))
  encrypt_all(client)
  lines = [json.loads(line)
           for line in (place / "keys").read_text().splitlines()]
  for line in lines[1:]:
    del line["width"], line["height"]
  (place / "keys").write_text("".join(json.dumps(x) + "\n" for x in lines))
  assert decrypt_all(client)[0] == 0
  np.testing.assert_array_equal(
      pixels(place / "back" / "odd.png"), photo(19, 37, 3)
  )


def test_a_key_file_in_use_is_refused(place):
  with (
      keyfile.KeyFile(place / "keys", place / "out"),
      pytest.raises(UserError, match="in use by another run"),
  ):
    keyfile.KeyFile(place / "keys", place / "out")
