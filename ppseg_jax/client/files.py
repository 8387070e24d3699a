"""What the client leaves on a disk: new files, whole or not at all.

A file gets its name by a hard link, which fails where the name is taken, so
that of two commands that write one name the second leaves it alone. Until then
it has no name at all (O_TMPFILE, Linux): however a command is killed, nothing
half-written and no plain picture stays. Where a system or a disk cannot do
that, it has a random hidden name and is locked; what a killed command leaves is
then not locked, and the next one on the same folder removes it, never that of
one that runs. Since disks that machines share may lock for each machine alone,
the name tells as well which picture's file it is (`parts.tag`): a run of a part
removes what was left of the part's own pictures only. Without file locks
(Windows) such files are left alone. Where a disk has no hard links (FAT) the
name is taken by an empty file first, which a command killed at that moment
leaves behind.
"""

import contextlib
import dataclasses
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath

from ppseg_jax.client.parts import WHOLE, Part, tag
from ppseg_jax.errors import UserError

try:
  import fcntl
except ImportError:  # not POSIX
  fcntl = None

_SUFFIX = ".ppseg-tmp"
_TEMPORARY = re.compile(
    rf"\.[0-9a-f]{{8,16}}([0-9a-f]{{8}}){re.escape(_SUFFIX)}"
)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_NEW = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW
    | getattr(os, "O_BINARY", 0)
)
_HELD = bool(_NOFOLLOW and _DIRECTORY) and os.open in os.supports_dir_fd
_NAMELESS = getattr(os, "O_TMPFILE", 0)
_UNSUPPORTED = (  # by which a disk says that it cannot link or be nameless
    errno.EISDIR, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT, errno.EXDEV,
    errno.EPERM, errno.ELOOP, errno.ENOSYS, errno.EMLINK,
)


class WriteError(UserError):
  """The disk is full or a folder not writable: to go on makes no sense."""

  def __init__(self, path: Path, error: OSError):
    super().__init__(
        f"{path} cannot be written ({error.strerror}); mend that, and the same"
        " command goes on."
    )


@dataclasses.dataclass(frozen=True)
class _Folder:
  """A folder held open, so that no link put in its place is followed.

  Without descriptors of folders (Windows) `fd` is None, and names are looked
  up by their path.
  """

  path: Path
  fd: int | None

  def at(self, name: str) -> str:
    return name if self.fd is not None else str(self.path / name)

  @contextlib.contextmanager
  def inner(self, name: str, mode: int) -> Iterator["_Folder"]:
    """A folder in this one, made if missing; OSError where it is a link."""
    with contextlib.suppress(FileExistsError):
      os.mkdir(self.at(name), mode, dir_fd=self.fd)
    path, fd = self.path / name, None
    if self.fd is not None:
      flags = os.O_RDONLY | _DIRECTORY | _NOFOLLOW
      fd = os.open(name, flags, dir_fd=self.fd)
    elif path.is_symlink() or not path.is_dir():
      raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    try:
      yield _Folder(path, fd)
    finally:
      if fd is not None:
        os.close(fd)


class Output:
  """An output folder, made if missing, in which no link is followed.

  The folder itself may be reached by links: its path is the user's.

  Args:
    root: the folder.
    private: files are made with mode 0600, and folders with 0700.

  Raises:
    WriteError: where it cannot be made or opened.
  """

  def __init__(self, root: Path, private: bool = False):
    self._file, self._folder = (0o600, 0o700) if private else (0o666, 0o777)
    fd = None
    try:
      for path in reversed((root, *root.parents)):
        if not path.exists():
          with contextlib.suppress(FileExistsError):
            path.mkdir(self._folder)
      if _HELD:
        fd = os.open(root, os.O_RDONLY | _DIRECTORY)
    except OSError as error:
      raise WriteError(root, error) from None
    self._root = _Folder(root, fd)

  def has(self, name: PurePath) -> bool:
    """Whether something has this name; UserError for a link on the way."""
    path = self._root.path
    try:
      for part in name.parts:
        path /= part
        if stat.S_ISLNK(path.lstat().st_mode):
          raise UserError(
              f"{path} is a link, and none is followed in OUT_DIR; remove it,"
              " or give another OUT_DIR."
          )
    except (FileNotFoundError, NotADirectoryError):
      return False
    except OSError as error:
      raise UserError(
          f"{path} cannot be looked at ({error.strerror}); mend that, or give"
          " another OUT_DIR."
      ) from None
    return True

  def write(self, name: PurePath, content: bytes) -> bool:
    """Writes a new file, whole or not at all; False where the name is taken.

    Raises UserError where its name cannot be, WriteError for all else.
    """
    path = self._root.path / name
    try:
      with contextlib.ExitStack() as stack:
        folder = self._root
        for part in name.parent.parts:
          folder = stack.enter_context(folder.inner(part, self._folder))
        return _write(folder, name.name, content, self._file, tag(name))
    except OSError as error:
      if error.errno == errno.ENAMETOOLONG:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); rename the picture."
        ) from None
      if error.errno in (errno.ENOTDIR, errno.ELOOP):
        raise UserError(
            f"{path} cannot be written: a folder on its way is a link or a"
            " file; remove that, or give another OUT_DIR."
        ) from None
      raise WriteError(path, error) from None

  def remove_leftovers(self, part: Part = WHOLE) -> None:
    """Removes what killed commands left half-written of a part; see above."""
    if fcntl is None or self._root.fd is None:
      return
    for _, _, names, folder in os.fwalk(".", dir_fd=self._root.fd):
      for found in filter(None, map(_TEMPORARY.fullmatch, names)):
        if part.holds(found[1]):
          with contextlib.suppress(OSError):  # it is another's, or gone
            _remove_unlocked(found[0], folder)

  def close(self) -> None:
    if self._root.fd is not None:
      os.close(self._root.fd)

  def __enter__(self) -> "Output":
    return self

  def __exit__(self, *_) -> None:
    self.close()


def _write(
    folder: _Folder, name: str, content: bytes, mode: int, tagged: str
) -> bool:
  if _NAMELESS and folder.fd is not None:
    try:
      return _write_nameless(folder, name, content, mode)
    except OSError as error:
      if error.errno not in _UNSUPPORTED:
        raise
  return _write_hidden(folder, name, content, mode, tagged)


def _write_nameless(
    folder: _Folder, name: str, content: bytes, mode: int
) -> bool:
  fd = os.open(".", os.O_WRONLY | _NAMELESS, mode, dir_fd=folder.fd)
  try:
    _fill(fd, content)
    os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder.fd,
            follow_symlinks=True)
  except FileExistsError:
    return False
  finally:
    os.close(fd)
  return True


def _write_hidden(
    folder: _Folder, name: str, content: bytes, mode: int, tagged: str
) -> bool:
  fd, temporary = _hidden(folder, mode, tagged)
  try:
    _fill(fd, content)
    return _name(folder, temporary, name, mode)
  finally:
    os.close(fd)
    with contextlib.suppress(FileNotFoundError):
      os.unlink(folder.at(temporary), dir_fd=folder.fd)


def _hidden(folder: _Folder, mode: int, tagged: str) -> tuple[int, str]:
  """A new temporary file, locked where there are locks, and its name."""
  while True:
    name = f".{secrets.token_hex(8)}{tagged}{_SUFFIX}"
    fd = os.open(folder.at(name), _NEW, mode, dir_fd=folder.fd)
    if fcntl is None:
      return fd, name
    with contextlib.suppress(OSError):  # a disk without locks
      fcntl.flock(fd, fcntl.LOCK_EX)
    if os.fstat(fd).st_nlink:  # else removed as a leftover before the lock
      return fd, name
    os.close(fd)


def _name(folder: _Folder, temporary: str, name: str, mode: int) -> bool:
  """Gives the temporary file its name; False where that is taken."""
  source, target = folder.at(temporary), folder.at(name)
  both = {"src_dir_fd": folder.fd, "dst_dir_fd": folder.fd}
  try:
    os.link(
        source, target, **both,
        follow_symlinks=os.link not in os.supports_follow_symlinks,
    )
    return True
  except FileExistsError:
    return False
  except OSError as error:
    if error.errno not in _UNSUPPORTED:
      raise
  try:
    os.close(os.open(target, _NEW, mode, dir_fd=folder.fd))
  except FileExistsError:
    return False
  try:
    os.replace(source, target, **both)
  except BaseException:
    os.unlink(target, dir_fd=folder.fd)
    raise
  return True


def _fill(fd: int, content: bytes) -> None:
  left = memoryview(content)
  while left:
    left = left[os.write(fd, left):]
  os.fsync(fd)


def _remove_unlocked(name: str, folder: int) -> None:
  """Removes a file of this folder; OSError where a command still writes it."""
  flags = os.O_WRONLY | os.O_NONBLOCK | _NOFOLLOW
  fd = os.open(name, flags, dir_fd=folder)
  try:
    if stat.S_ISREG(os.fstat(fd).st_mode):
      fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
      os.unlink(name, dir_fd=folder)
  finally:
    os.close(fd)


def sync_folder(folder: Path) -> None:
  """Makes a new name in the folder outlive a power cut, where that exists."""
  if os.name != "posix":
    return
  fd = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(fd)
  finally:
    os.close(fd)
