"""Encrypting and decrypting folders of pictures.

Both walk a folder with its subfolders (not hidden ones, whose names begin with
a dot, and not symbolic links to folders) and keep the relative paths: `a/b.jpg`
becomes `a/b.png`. A picture whose file in the output exists already is left
alone, so that the same command again goes on where it was stopped.
"""

import dataclasses
import functools
import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax import encryption, pictures
from ppseg_jax.client import files, keyfile
from ppseg_jax.encryption import Scheme, fresh_keys
from ppseg_jax.errors import UserError


@dataclasses.dataclass
class Summary:
  """What became of the files of a folder, each by its relative path.

  Attributes:
    done: written by this run.
    before: found done.
    skipped: no pictures.
    failed: 'path: reason' of each picture that was not written.
  """

  done: list[str] = dataclasses.field(default_factory=list)
  before: list[str] = dataclasses.field(default_factory=list)
  skipped: list[str] = dataclasses.field(default_factory=list)
  failed: list[str] = dataclasses.field(default_factory=list)


def encrypt_folder(
    source: Path,
    out: Path,
    scheme: Scheme,
    block: int = 16,
    keys: Path | None = None,
    padding: bool = True,
) -> Summary:
  """Encrypts each picture of a folder under a fresh key of its own.

  Args:
    source: the folder of the pictures.
    out: the folder of the ciphertexts, PNGs; may exist.
    scheme: the scheme.
    block: its block size in pixels.
    keys: the key file to write, see `ppseg_jax.client.keyfile`; without it the
      keys are forgotten, and nobody gets the pictures back.
    padding: pad pictures to whole blocks; otherwise those that need it fail.

  Raises:
    UserError: where nothing can be done at all.
  """
  _check_folders(source, out)
  if keys is not None:
    _check_away(keys, source, out)
  pictures.check_block(block)
  paths, skipped = find_pictures(source)
  targets = {path: out / path.with_suffix(".png") for path in paths}
  _check_clashes(source, targets)
  keeper = keyfile.KeyFile(keys, out) if keys is not None else None

  def one(path: Path) -> bool:
    plain = pictures.read_picture(source / path)
    height, width = plain.shape[:2]
    header = pictures.Header(scheme.name, block, width, height)
    if targets[path].exists():
      _check_done(targets[path], header, plain, keeper)
      return False
    if not padding and (height % block or width % block):
      raise UserError(
          f"its size {width}x{height} is not a multiple of the block size"
          f" {block}; leave out --no-pad, or choose another --block."
      )
    key = fresh_keys(1)[0]
    cipher = _encrypt(scheme, key, pictures.pad(plain, block), block)
    content = pictures.encode(cipher, header)
    if keeper is not None:  # before the ciphertext, so that none is without
      keeper.add(keyfile.Entry(
          name=path.with_suffix(".png").as_posix(), scheme=scheme.name,
          block=block, key=keyfile.to_hex(key), sha256=_sha256(content),
          plain_sha256=_sha256(plain.tobytes()),
      ))
    files.write_bytes(targets[path], content)
    return True

  try:
    return _run("encrypted", out, paths, skipped, one)
  finally:
    if keeper is not None:
      keeper.close()


def decrypt_folder(
    source: Path, out: Path, keys: Path, scheme: Scheme | None = None
) -> Summary:
  """Gives back the pictures of a folder of ciphertexts.

  Args:
    source: the folder of the ciphertexts.
    out: the folder of the pictures, PNGs; may exist.
    keys: the key file that `encrypt_folder` wrote.
    scheme: for ciphertexts under a scheme that is not in `SCHEMES`.

  Raises:
    UserError: where nothing can be done at all.
  """
  _check_folders(source, out)
  entries = keyfile.read(keys)
  by_hash = {entry.sha256: entry for entry in entries}
  names = {entry.name for entry in entries}
  known = encryption.SCHEMES | ({scheme.name: scheme} if scheme else {})
  paths, skipped = find_pictures(source)
  _check_clashes(source, {path: path.with_suffix(".png") for path in paths})

  def one(path: Path) -> bool:
    cipher, header = pictures.read_cipher(source / path)
    entry = by_hash.get(_sha256((source / path).read_bytes()))
    if entry is None:
      raise UserError(_no_key(path, names))
    if entry.scheme not in known:
      raise UserError(
          f"scheme '{entry.scheme}' is none of {', '.join(known)}; give its"
          " file with --scheme=FILE.py:NAME."
      )
    target = out / path.with_suffix(".png")
    if target.exists():
      _check_restored(target, entry)
      return False
    padded = np.asarray(_jit_decrypt(
        known[entry.scheme], keyfile.from_hex(entry.key), cipher, entry.block
    ))
    plain = padded[:header.height, :header.width]
    if _sha256(plain.tobytes()) != entry.plain_sha256:
      raise UserError(
          "the key that the key file has for it does not open it; restore the"
          " key file from a copy."
      )
    files.write_bytes(target, pictures.encode(plain))
    return True

  return _run("decrypted", out, paths, skipped, one)


def _run(
    verb: str,
    out: Path,
    paths: list[Path],
    skipped: list[str],
    one: Callable[[Path], bool],
) -> Summary:
  """Calls `one` on each path: True for written, False for done before."""
  files.remove_leftovers(out)
  summary = Summary(skipped=skipped)
  progress = _Progress(verb, len(paths))
  for path in paths:
    try:
      (summary.done if one(path) else summary.before).append(path.as_posix())
    except files.WriteError:
      raise
    except UserError as error:
      summary.failed.append(f"{path.as_posix()}: {error}")
    progress.step()
  progress.close()
  return summary


@functools.partial(jax.jit, static_argnums=(0, 3))
def _jit_encrypt(scheme, key, image, block):
  """(ciphertext, whether decryption gives the image back)."""
  cipher = encryption.encrypt(scheme, key, image, block)
  again = encryption.decrypt(scheme, key, cipher, block)
  return cipher, jnp.array_equal(again, image)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _jit_decrypt(scheme, key, cipher, block):
  return encryption.decrypt(scheme, key, cipher, block)


def _encrypt(
    scheme: Scheme, key: jax.Array, image: np.ndarray, block: int
) -> np.ndarray:
  cipher, exact = _jit_encrypt(scheme, key, image, block)
  if not exact:
    raise UserError(
        f"scheme '{scheme.name}' does not give it back exactly; choose another"
        " --scheme."
    )
  return np.asarray(cipher)


def _sha256(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()


def _check_folders(source: Path, out: Path) -> None:
  if not source.is_dir():
    raise UserError(f"IN_DIR={source} is no folder; give one with pictures.")
  if out.exists() and not out.is_dir():
    raise UserError(f"OUT_DIR={out} is no folder; give another path.")
  inside, outside = source.resolve(), out.resolve()
  if inside.is_relative_to(outside) or outside.is_relative_to(inside):
    raise UserError(
        f"OUT_DIR={out} and IN_DIR={source} lie in one another, so that plain"
        " and encrypted pictures would mix; give an OUT_DIR elsewhere."
    )


def _check_away(keys: Path, source: Path, out: Path) -> None:
  where = keys.parent.resolve() / keys.name
  for name, folder in (("OUT_DIR", out), ("IN_DIR", source)):
    if where.is_relative_to(folder.resolve()):
      raise UserError(
          f"--keys={keys} lies in {name}, from where it may be sent away with"
          " the pictures; give a path elsewhere."
      )


def find_pictures(folder: Path) -> tuple[list[Path], list[str]]:
  """(relative paths of pictures, those of other files), both sorted."""
  found, others = [], []
  for root, folders, names in os.walk(folder, onerror=_unreadable):
    here = Path(root)
    others += [here / name for name in folders if (here / name).is_symlink()]
    folders[:] = [name for name in folders if not name.startswith(".")]
    for name in names:
      if not name.startswith("."):
        path = here / name
        wanted = path.is_file() and pictures.is_picture(path)
        (found if wanted else others).append(path)
  if not found:
    raise UserError(f"IN_DIR={folder} holds no pictures; give one with some.")
  return (
      sorted(path.relative_to(folder) for path in found),
      sorted(path.relative_to(folder).as_posix() for path in others),
  )


def _unreadable(error: OSError) -> None:
  raise UserError(
      f"{error.filename} cannot be read ({error.strerror}); mend or move it."
  )


def _check_clashes(source: Path, targets: dict[Path, Path]) -> None:
  """Folded, since some file systems do not tell a.png from A.png."""
  seen = {}
  for path, target in targets.items():
    other = seen.setdefault(str(target).casefold(), path)
    if other is not path:
      raise UserError(
          f"IN_DIR={source}: {other} and {path} would both become"
          f" {path.with_suffix('.png')}; rename one."
      )


def _check_done(
    target: Path,
    header: pictures.Header,
    plain: np.ndarray,
    keeper: keyfile.KeyFile | None,
) -> None:
  """Raises UserError unless the file is what this run would leave there."""
  mend = f"remove or move {target}, or give another OUT_DIR."
  try:
    found = pictures.read_header(target)
  except UserError as error:
    raise UserError(f"its file in OUT_DIR {error} To go on, {mend}") from None
  if found != header:
    raise UserError(
        f"its file in OUT_DIR is of a picture of {found.width}x{found.height}"
        f" under scheme '{found.scheme}' with blocks of {found.block}; {mend}"
    )
  if keeper is None:
    return
  entry = keeper.entries.get(_sha256(target.read_bytes()))
  if entry is None:
    raise UserError(
        f"the key file does not hold the key of its file in OUT_DIR; {mend}"
    )
  if entry.plain_sha256 != _sha256(plain.tobytes()):
    raise UserError(
        f"its file in OUT_DIR is of another or an older picture; {mend}"
    )


def _check_restored(target: Path, entry: keyfile.Entry) -> None:
  try:
    same = entry.plain_sha256 == _sha256(
        pictures.read_picture(target).tobytes()
    )
  except UserError:
    same = False
  if not same:
    raise UserError(
        f"{target} exists and is another picture; remove or move it, or give"
        " another OUT_DIR."
    )


def _no_key(path: Path, names: set[str]) -> str:
  if path.with_suffix(".png").as_posix() in names:
    return (
        "the key file's key is not of this file, which was changed since it"
        " was encrypted or is of another run; get the file again."
    )
  return (
      "the key file has no key of it; give the one written when it was"
      " encrypted."
  )


class _Progress:
  """A line on stderr that is written over, or one every ten seconds."""

  def __init__(self, verb: str, total: int):
    self._verb, self._total, self._count = verb, total, 0
    self._bar = sys.stderr.isatty()
    self._start = self._shown = time.monotonic()

  def step(self) -> None:
    self._count += 1
    now = time.monotonic()
    if now - self._shown < (0.1 if self._bar else 10):
      return
    self._shown = now
    self._show(now)

  def _show(self, now: float) -> None:
    rate = self._count / max(now - self._start, 1e-9)
    left = (self._total - self._count) / rate
    text = (f"{self._count}/{self._total} {self._verb}, {rate:.1f} a second,"
            f" {left:.0f} s left")
    if self._bar:
      done = 20 * self._count // self._total
      text = f"\r[{'#' * done:20}] {text}\x1b[K"
    print(text, end="" if self._bar else "\n", file=sys.stderr, flush=True)

  def close(self) -> None:
    if self._bar:
      self._show(time.monotonic())
      print(file=sys.stderr)
