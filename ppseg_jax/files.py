"""Writing files whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
  """Gives a temporary path beside `path` to write to, renamed on leaving.

  Where the writing fails nothing is left and `path` is as it was.
  """
  # Random, so that runs on other hosts do not write to it; short, so that it
  # fits wherever the name itself does.
  temporary = path.with_name(f".{secrets.token_hex(8)}{suffix}")
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
  """Writes a text file whole or not at all."""
  with whole(path) as temporary:
    temporary.write_text(text)
