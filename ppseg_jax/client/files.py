"""What the client leaves on a disk: pictures, whole or not at all."""

import errno
import os
from pathlib import Path

from ppseg_jax.errors import UserError
from ppseg_jax.files import whole

_SUFFIX = ".ppseg-tmp"
_OF_THE_NAME = (
    errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR,
)


class WriteError(UserError):
  """The disk is full or a folder not writable: to go on makes no sense."""

  def __init__(self, path: Path, error: OSError):
    super().__init__(
        f"{path} cannot be written ({error.strerror}); mend that, and the same"
        " command goes on."
    )


def write_bytes(path: Path, content: bytes) -> None:
  """Writes a file, on the disk on return, making its folder.

  Raises UserError where its name cannot be, WriteError for all else.
  """
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path, _SUFFIX) as temporary, temporary.open("wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
  except OSError as error:
    if error.errno in _OF_THE_NAME:
      raise UserError(
          f"{path} cannot be written ({error.strerror}); rename the picture."
      ) from None
    raise WriteError(path, error) from None


def remove_leftovers(folder: Path) -> None:
  """Removes the half-written files of a killed run."""
  for path in folder.rglob(f".*{_SUFFIX}"):
    path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
  """Makes a new name in the folder outlive a power cut, where that exists."""
  if os.name != "posix":
    return
  fd = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(fd)
  finally:
    os.close(fd)
