"""Key files: the keys of one folder of ciphertexts, for their owner alone.

A key file is JSON, one object a line. The first line says what the file is and
which folder its keys belong to; each other line is one ciphertext:

    {"ppseg_jax_keys": 1, "out": "/home/me/encrypted", "part": "2/8"}
    {"name": "a.png", "scheme": "blockwise", "block": 16,
     "width": 640, "height": 480, "key": "00112233445566778899aabbccddeeff",
     "sha256": "...", "plain_sha256": "...", "file": "..."}

`part` says which of the folder's pictures the file is for, 1/1 for all of them.
`name` is the ciphertext's path inside the folder, with slashes; `width` and
`height` are those of the plain image; `key` holds the four 32-bit words of its
key, eight digits each; `sha256` is that of the ciphertext file's bytes, by
which its key is found; `plain_sha256` that of the plain image's values in
row-major order, so that a decryption is known to be right; `file` is what
`file_state` says of the plain image's file, by which a resumed run knows that
it has not changed. Older files lack `part`, `width`, `height` and `file`. A
name may have several lines: a run was stopped between key and ciphertext.

Files of runs that protect regions say 2 in the place of 1. A ciphertext with
protected regions has `protect` besides, which says in what cells which blocks
were merged: the cell, a colon, and a bit for each block, eight a byte, by zlib
and base64 (`encryption.regions.to_text`).

The file is made with mode 0600 and grows by whole lines, each on the disk
before its ciphertext appears: no ciphertext of a killed run is without its key.
"""

import dataclasses
import json
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from ppseg_jax.client.files import WriteError, sync_folder
from ppseg_jax.client.parts import WHOLE, Part
from ppseg_jax.encryption.keys import IMPL
from ppseg_jax.errors import UserError

try:
  import fcntl
except ImportError:  # not POSIX
  fcntl = None

_MARK = "ppseg_jax_keys"
_DIGITS = re.compile(r"[0-9a-f]{32}")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
  """One line of a key file; its repr leaves the key out."""

  name: str
  scheme: str
  block: int
  key: str = dataclasses.field(repr=False)
  sha256: str
  plain_sha256: str = dataclasses.field(repr=False)
  width: int = 0  # 0: not known
  height: int = 0
  file: str = dataclasses.field(default="", repr=False)  # '': not known
  protect: str = ""  # '': no block


def file_state(path: Path) -> str:
  """A file's size in bytes and when it changed (mtime, ctime; ns); '' if gone.

  Who writes other values into a file also changes its ctime, which cannot be
  set back as the mtime can (on Windows it is when the file was made).
  """
  try:
    found = path.stat()
  except OSError:
    return ""
  return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def to_hex(key: jax.Array) -> str:
  """A typed key [] as 32 hexadecimal digits."""
  words = np.asarray(jax.random.key_data(key))
  return "".join(f"{word:08x}" for word in words)


def from_hex(digits: str) -> jax.Array:
  """The inverse of `to_hex`."""
  words = [int(digits[i : i + 8], 16) for i in range(0, 32, 8)]
  return jax.random.wrap_key_data(np.array(words, np.uint32), impl=IMPL)


class KeyFile:
  """A key file that a run adds to.

  Args:
    path: where; must not exist, unless it is the key file of the same output
      folder, which a resumed run adds to.
    out: the folder of the ciphertexts.
    part: the part of its pictures that the run is for.
    protects: whether the run protects regions.

  Attributes:
    entries: those of the file, by the ciphertext's SHA-256.
    part: as given.

  Raises:
    UserError: where the file exists and is anything else or of another part,
      is readable by others, or cannot be made.
  """

  def __init__(
      self, path: Path, out: Path, part: Part = WHOLE, protects: bool = False
  ):
    self._path = path
    self._version = 2 if protects else 1
    self.part = part
    self.entries: dict[str, Entry] = {}
    folder = str(out.resolve())
    flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
      try:
        self._fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
      except FileExistsError:
        if not stat.S_ISREG(path.lstat().st_mode):
          raise UserError(
              f"--keys={path} exists and is not a regular file; give another"
              " path."
          ) from None
        self._fd = os.open(path, flags)
      try:
        self._lock(path)
        self._begin(path, folder)
        sync_folder(path.parent)
      except BaseException:
        os.close(self._fd)
        raise
    except OSError as error:
      raise UserError(
          f"--keys={path}: the key file cannot be written"
          f" ({error.strerror}); give another path."
      ) from None

  def _lock(self, path: Path) -> None:
    """Until the file is closed: two runs would cut each other's lines."""
    if fcntl is None:
      return
    try:
      fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(
          f"--keys={path} is in use by another run; wait for its end."
      ) from None

  def _begin(self, path: Path, folder: str) -> None:
    """Takes the entries and leaves the file with whole lines to add to."""
    with open(self._fd, "rb", closefd=False) as file:
      content = file.read()
    if content:
      header, entries = _parse(content, path)
      if header is None or str(header["out"]) != folder:
        raise UserError(
            f"--keys={path} exists"
            + (f" and holds the keys of {header['out']}" if header else "")
            + "; a key file is never overwritten, give a new path."
        )
      part = header.get("part", str(WHOLE))
      if part != str(self.part):
        raise UserError(
            f"--keys={path} is for part {part} of the pictures, not for"
            f" {self.part}; each part has a key file of its own, and the number"
            " of parts stays as it was."
        )
      if header[_MARK] < self._version:
        raise UserError(
            f"--keys={path} was begun without --protect; give a new key file"
            " and another OUT_DIR."
        )
      self.entries = {entry.sha256: entry for entry in entries}
    if os.fstat(self._fd).st_mode & 0o077:
      raise UserError(
          f"--keys={path} can be read by others; chmod 600 it, or take a new"
          " path and OUT_DIR."
      )
    whole = _whole_lines(content)
    os.ftruncate(self._fd, min(len(whole), len(content)))
    if len(whole) > len(content):
      os.write(self._fd, b"\n")
      os.fsync(self._fd)
    if not whole:  # new, or of a run killed before it wrote anything
      self._write({
          _MARK: self._version, "out": folder, "part": str(self.part)
      })

  def add(self, entry: Entry) -> None:
    """Adds an entry; on return it is on the disk."""
    try:
      line = dataclasses.asdict(entry)
      if not entry.protect:
        del line["protect"]  # which older versions do not know
      self._write(line)
    except OSError as error:
      raise WriteError(self._path, error) from None
    self.entries[entry.sha256] = entry

  def _write(self, line: dict) -> None:
    left = memoryview((json.dumps(line) + "\n").encode())
    while left:
      left = left[os.write(self._fd, left):]
    os.fsync(self._fd)

  def close(self) -> None:
    os.close(self._fd)

  def __enter__(self) -> "KeyFile":
    return self

  def __exit__(self, *_) -> None:
    self.close()


def read(path: Path) -> list[Entry]:
  """The entries of a key file, in its order; UserError if it is none."""
  try:
    header, entries = _parse(path.read_bytes(), path)
  except OSError as error:
    raise UserError(
        f"--keys={path} cannot be read ({error.strerror}); give the key file"
        " that 'encrypt --keys' wrote."
    ) from None
  if header is None:
    raise UserError(
        f"--keys={path} is not a key file; give the one that 'encrypt --keys'"
        " wrote."
    )
  return entries


class Keys:
  """The entries of one key file or of several, to decrypt by.

  Args:
    paths: the key files.

  Raises:
    UserError: where one of them is none.
  """

  def __init__(self, paths: Sequence[Path]):
    self._by_sha256: dict[str, list[tuple[Entry, Path]]] = {}
    self._by_name: dict[str, list[tuple[Entry, Path]]] = {}
    for path in dict.fromkeys(paths):
      for entry in read(path):
        self._by_sha256.setdefault(entry.sha256, []).append((entry, path))
        self._by_name.setdefault(entry.name, []).append((entry, path))

  def of(self, name: str, sha256: str) -> list[tuple[Entry, Path]]:
    """(entry, its key file) of a ciphertext, in the order to try them.

    Those of its very bytes or else, where another program wrote it anew, those
    of its name, the latest first; UserError where key files disagree on them.
    """
    held = self._by_sha256.get(sha256) or self._by_name.get(name, [])
    _check_agreement(held)
    return held[::-1]


def _check_agreement(held: list[tuple[Entry, Path]]) -> None:
  """One key file may have more keys of a picture than another, not others."""
  keys: dict[Path, set] = {}
  for entry, path in held:
    keys.setdefault(path, set()).add(
        (entry.scheme, entry.block, entry.key, entry.plain_sha256,
         entry.protect)
    )
  if keys and set().union(*keys.values()) not in keys.values():
    raise UserError(
        " and ".join(f"--keys={path}" for path in keys) + " have different keys"
        " for it; give only the one written when it was encrypted."
    )


def _whole_lines(content: bytes) -> bytes:
  """Without the half of a line that a killed run may leave at the end.

  A last line that only lost its end, in an editor say, is whole.
  """
  start = content.rfind(b"\n") + 1
  try:
    json.loads(content[start:])
  except ValueError:
    return content[:start]
  return content + b"\n"


def _parse(content: bytes, path: Path) -> tuple[dict | None, list[Entry]]:
  """(header, entries); header None where the file is no key file at all."""
  lines = _whole_lines(content).splitlines()
  try:
    header = json.loads(lines[0])
    if header[_MARK] not in (1, 2):
      raise UserError(
          f"--keys={path} was written by a newer version of ppseg_jax; update"
          " this one."
      )
    header["out"]
  except (ValueError, KeyError, TypeError, IndexError) as error:
    if isinstance(error, UserError):
      raise
    return None, []
  return header, [
      _entry(line, f"--keys={path}, line {number}")
      for number, line in enumerate(lines[1:], 2)
  ]


def _entry(line: bytes, where: str) -> Entry:
  try:
    entry = Entry(**json.loads(line))
    numbers = (entry.block, entry.width + 1, entry.height + 1)
    if all(isinstance(n, int) and n >= 1 for n in numbers) and (
        _DIGITS.fullmatch(entry.key) and isinstance(entry.protect, str)
    ):
      return entry
  except (ValueError, TypeError):
    pass
  raise UserError(f"{where} is damaged; restore the key file from a copy.")
