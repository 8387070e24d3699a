"""Parts of a folder, for several processes that share its pictures.

Which part a picture is in follows from its path alone: pictures that come later
move none of the others, and machines need not agree on anything.
"""

import dataclasses
import hashlib
import os
from pathlib import PurePath


@dataclasses.dataclass(frozen=True)
class Part:
  """The `number`-th of `count` parts, counted from 1; 1/1 is the whole."""

  number: int = 1
  count: int = 1

  def holds(self, tag: str) -> bool:
    """Whether a picture of this tag is in the part."""
    return int(tag, 16) % self.count == self.number - 1

  def __str__(self) -> str:
    return f"{self.number}/{self.count}"


WHOLE = Part()


def tag(path: PurePath) -> str:
  """Eight hexadecimal digits of a picture's path inside its folder.

  Those of the path that its ciphertext has, so that both have the same tag. The
  path's bytes count, whatever encoding a machine reads them in.
  """
  name = path.with_suffix(".png").as_posix()
  return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
