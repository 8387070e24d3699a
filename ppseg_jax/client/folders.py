"""Encrypting and decrypting folders of pictures.

A picture whose file in the output exists already is left alone, so that the
same command again goes on where it was stopped; what it did before is checked,
and decoded only where nothing else tells. Of two commands that run at once on
one output folder, each file is the work of one.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax import encryption, pictures
from ppseg_jax.client import files, keyfile, walk
from ppseg_jax.client.noise import Noise
from ppseg_jax.client.parts import WHOLE, Part
from ppseg_jax.client.protect import Protection
from ppseg_jax.client.walk import Summary
from ppseg_jax.encryption import Scheme, fresh_keys, regions
from ppseg_jax.encryption.mix import Keyless
from ppseg_jax.errors import UserError


class Beside(Protocol):
  """What goes with each ciphertext, labels say; what is wrong is a UserError.
  """

  def write(self, path: Path, key: jax.Array, size: tuple[int, int]) -> None:
    """Writes it, given the picture's path, key, and (width, height)."""

  def check_done(self, path: Path, size: tuple[int, int]) -> None:
    """Looks whether that of a picture done before is there."""


def encrypt_folder(
    source: Path,
    out: Path,
    scheme: Scheme,
    block: int = 16,
    keys: Path | None = None,
    padding: bool = True,
    part: Part = WHOLE,
    beside: Beside | None = None,
    protection: Protection | None = None,
    noise: Noise | None = None,
) -> Summary:
  """Encrypts each picture of a folder under a fresh key of its own.

  Args:
    source: the folder of the pictures.
    out: the folder of the ciphertexts, PNGs; may exist.
    scheme: the scheme.
    block: its block size in pixels.
    keys: the key file to write, see `ppseg_jax.client.keyfile`; without it the
      keys are forgotten, and nobody gets the pictures back.
    padding: pad pictures to whole blocks, which shows more of their last rows
      and columns (`pictures.pad`); otherwise those that need it fail.
    part: the part of the pictures to encrypt. Several parts may run at once,
      each with a key file of its own.
    beside: what is written for each picture besides, first.
    protection: the regions to protect. Each picture is then decoded, also one
      that is done.
    noise: encrypt a release of each picture, made once; the scheme is then
      `noise.scheme` of one.

  Raises:
    UserError: where nothing can be done at all.
  """
  check_folders(source, out)
  if keys is not None:
    check_outside(keys, "OUT_DIR", out)
    check_outside(keys, "IN_DIR", source)
    if encryption.ops_of(scheme, Keyless):
      raise UserError(
          f"--keys: scheme '{scheme.name}' leaves out most of a picture, which"
          " no key brings back; leave --keys out, and keep the pictures."
      )
  pictures.check_block(block)
  if protection:
    regions.unit_of(scheme)
    regions.check_cell(protection.cell, scheme)
  paths, skipped, others = walk.find_part(source, part)
  keeper = keys and keyfile.KeyFile(keys, out, part, protection is not None)
  padded, unprotected = [], []
  said = noise.said if noise else ""

  def one(path: Path, output: files.Output) -> bool:
    name = path.with_suffix(".png")
    state = keyfile.file_state(source / path)  # before it is read
    there, plain = output.has(name), None
    size = there and not protection and _size_if_done(
        source / path, state, out, name, scheme.name, block, keeper, said
    )
    if not size:
      plain = pictures.read_picture(source / path)
      if noise:
        plain = noise.cut(plain, block)
      size = plain.shape[1::-1]
    cells, text = None, ""
    if protection:
      mask = protection.find(path, plain)
      cells = protection.cells(mask, mask.shape, (block,), block, scheme)
      text = regions.to_text(cells, protection.cell)
      if not text:
        unprotected.append(path.as_posix())
    protect = text and _sha256(text.encode())[:16]
    header = pictures.Header(scheme.name, block, *size, protect, said)
    partial = size[0] % block or size[1] % block
    if partial and not padding:
      raise UserError(
          f"its size {size[0]}x{size[1]} is not a multiple of the block size"
          f" {block}; crop it, choose another --block, or leave out --no-pad."
      )
    if noise and not there:
      plain = noise.release(plain, block)
    before = beside and functools.partial(beside.write, path, size=size)
    fresh = not there and _encrypt_one(
        scheme, plain, state, header, name, output, keeper, before, cells, text
    )
    if not fresh and plain is not None:
      _check_done(out / name, header, plain, keeper)
    if not fresh and beside:
      beside.check_done(path, size)
    if partial:
      padded.append(path.as_posix())
    return fresh

  try:
    with files.Output(out) as output:
      output.remove_leftovers(part)
      summary = walk.each("encrypted", paths, output, one)
  finally:
    if keeper is not None:
      keeper.close()
  return dataclasses.replace(
      summary, skipped=skipped, padded=padded, others=others,
      unprotected=unprotected,
  )


def _size_if_done(
    picture: Path,
    state: str,
    out: Path,
    name: PurePath,
    scheme: str,
    block: int,
    keeper: keyfile.KeyFile | None,
    noise: str,
) -> tuple[int, int] | None:
  """(width, height) of a picture that is seen to be done without decoding it.

  With a key file: it has the key of the very ciphertext, and the picture's file
  is as it was. Without: the ciphertext is of a picture of the same size. None
  where that does not hold, and its values have to tell.
  """
  target = out / name
  if keeper is not None:
    entry = keeper.entries.get(_sha256(_read(target)))
    same = entry is not None and state != "" and not entry.protect and (
        (entry.name, entry.file, entry.scheme, entry.block)
        == (name.as_posix(), state, scheme, block)
    )
    return (entry.width, entry.height) if same else None
  try:
    size = pictures.read_size(picture)
    found = pictures.read_header(target)
  except UserError:
    return None
  wanted = pictures.Header(scheme, block, *size, noise=noise)
  return size if found == wanted else None


def _encrypt_one(
    scheme: Scheme,
    plain: np.ndarray,
    state: str,
    header: pictures.Header,
    name: PurePath,
    output: files.Output,
    keeper: keyfile.KeyFile | None,
    before: Callable[[jax.Array], None] | None = None,
    cells: np.ndarray | None = None,
    protect: str = "",
) -> bool:
  """Writes a ciphertext under a fresh key; False where its name is taken.

  Its key is on the disk before, so that no ciphertext is without: a key whose
  ciphertext was then not written stays unused. `before` is called with the key
  just before the ciphertext is written.
  """
  key = fresh_keys(1)[0]
  cipher = _encrypt(
      scheme, key, pictures.pad(plain, header.block), header.block, cells
  )
  content = pictures.encode(cipher, header)
  if keeper is not None:
    keeper.add(keyfile.Entry(
        name=name.as_posix(), scheme=scheme.name, block=header.block,
        width=header.width, height=header.height, key=keyfile.to_hex(key),
        sha256=_sha256(content), plain_sha256=_sha256(plain.tobytes()),
        file=state, protect=protect,
    ))
  if before is not None:
    before(key)
  return output.write(name, content)


def decrypt_folder(
    source: Path, out: Path, keys: Sequence[Path], scheme: Scheme | None = None
) -> Summary:
  """Gives back the pictures of a folder of ciphertexts, for their owner alone.

  The files have mode 0600, and folders that are made 0700. A ciphertext that
  another program wrote anew, its pixels unchanged, is opened by the keys of its
  name: the plain image's hash says which is right.

  Args:
    source: the folder of the ciphertexts.
    out: the folder of the pictures, PNGs; may exist.
    keys: the key files that `encrypt_folder` wrote.
    scheme: for ciphertexts under a scheme that is not in `SCHEMES`.

  Raises:
    UserError: where nothing can be done at all.
  """
  check_folders(source, out)
  held = keyfile.Keys(keys)
  opened = {path: [] for path in keys}
  known = encryption.SCHEMES | ({scheme.name: scheme} if scheme else {})
  paths, skipped, _ = walk.find_part(source)

  def one(path: Path, output: files.Output) -> bool:
    name = path.with_suffix(".png")
    digest = _sha256(_read(source / path))
    entries = held.of(name.as_posix(), digest)
    exact = bool(entries) and entries[0][0].sha256 == digest
    if exact and output.has(name):
      entry, key_file = entries[0]
      opened[key_file].append(path.as_posix())
      _check_restored(out / name, entry)
      return False
    try:
      cipher, header = pictures.read_cipher(source / path)
    except UserError:
      if not entries:
        raise
      # What writes a PNG anew may drop the text fields.
      cipher, header = pictures.read_picture(source / path), None
    if not entries:
      raise UserError(
          f"{'the key file has' if len(opened) == 1 else 'the key files have'}"
          " no key of it; give the one written when it was encrypted."
      )
    for entry, key_file in entries:
      plain = _open(cipher, header, entry, known)
      if plain is not None:
        opened[key_file].append(path.as_posix())
        break
    else:
      raise _not_opened(key_file, exact)
    fresh = not output.has(name) and output.write(name, pictures.encode(plain))
    if not fresh:
      _check_restored(out / name, entry)
    return fresh

  with files.Output(out, private=True) as output:
    output.remove_leftovers()
    summary = walk.each("decrypted", paths, output, one)
  return dataclasses.replace(summary, skipped=skipped, opened=opened)


def _not_opened(key_file: Path, exact: bool) -> UserError:
  """What to say where the key was found by the file's bytes, or by its name."""
  has = f"the key that --keys={key_file} has for it"
  if exact:
    return UserError(
        f"{has} does not open it; restore the key file from a copy."
    )
  return UserError(
      f"{has} is not of this file, which was changed since it was encrypted or"
      " is of another run; get the file again."
  )


def _open(
    cipher: np.ndarray,
    header: pictures.Header | None,
    entry: keyfile.Entry,
    known: dict[str, Scheme],
) -> np.ndarray | None:
  """The plain picture, or None if this is not the key of the ciphertext."""
  if entry.scheme not in known:
    raise UserError(
        f"scheme '{entry.scheme}' is none of {', '.join(known)}; give its"
        " file with --scheme=FILE.py:NAME."
    )
  height, width = cipher.shape[:2]
  if height % entry.block or width % entry.block:
    return None
  cells = None
  if entry.protect:
    try:
      cells = regions.from_text(
          entry.protect, height // entry.block, width // entry.block
      )
    except ValueError:
      return None
  padded = np.asarray(_jit_decrypt(
      known[entry.scheme], keyfile.from_hex(entry.key), cipher, entry.block,
      cells,
  ))
  size = entry if entry.width else header
  plain = padded[:size.height, :size.width] if size else padded
  return plain if _sha256(plain.tobytes()) == entry.plain_sha256 else None


@functools.partial(jax.jit, static_argnums=(0, 3))
def _jit_encrypt(scheme, key, image, block, cells):
  """(ciphertext, whether it is right).

  That is, whether decryption gives the image back; of a level or a mix, which
  cannot be undone, whether the ciphertext shows the image's.
  """
  merged = image
  if cells is not None:
    merged = regions.merge(scheme, key, image, cells, block)
  cipher = encryption.encrypt(scheme, key, merged, block)
  if encryption.ops_of(scheme, Keyless):
    shown, wanted = (
        encryption.canonical(scheme, x, block) for x in (cipher, merged)
    )
    return cipher, jnp.array_equal(shown, wanted)
  again = _jit_decrypt(scheme, key, cipher, block, cells)
  return cipher, jnp.array_equal(again, image)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _jit_decrypt(scheme, key, cipher, block, cells):
  if cells is not None:
    return regions.decrypt(scheme, key, cipher, cells, block)
  return encryption.decrypt(scheme, key, cipher, block)


def _encrypt(
    scheme: Scheme, key: jax.Array, image: np.ndarray, block: int,
    cells: np.ndarray | None = None,
) -> np.ndarray:
  cipher, exact = _jit_encrypt(scheme, key, image, block, cells)
  if not exact:
    raise UserError(
        f"scheme '{scheme.name}' does not give it back exactly; choose another"
        " --scheme."
    )
  return np.asarray(cipher)


def _read(path: Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise UserError(
        f"{path} cannot be read ({error.strerror}); mend or move it."
    ) from None


def _sha256(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()


def check_folders(source: Path, out: Path) -> None:
  """Raises UserError unless `out` can be the folder of what is made of source.
  """
  if not source.is_dir():
    raise UserError(f"IN_DIR={source} is no folder; give one with pictures.")
  try:
    if out.exists() and not out.is_dir():
      raise UserError(f"OUT_DIR={out} is no folder; give another path.")
    inside, outside = source.resolve(), out.resolve()
  except (OSError, RuntimeError):  # not to be looked at, or links in a circle
    raise UserError(
        f"OUT_DIR={out} cannot be reached; give another path."
    ) from None
  if inside.is_relative_to(outside) or outside.is_relative_to(inside):
    raise UserError(
        f"OUT_DIR={out} and IN_DIR={source} lie in one another, so that plain"
        " and encrypted pictures would mix; give an OUT_DIR elsewhere."
    )


def check_outside(keys: Path, name: str, folder: Path) -> None:
  """Raises UserError where a key file would lie in the folder of that name."""
  where = keys.parent.resolve() / keys.name
  if where.is_relative_to(folder.resolve()):
    raise UserError(
        f"--keys={keys} lies in {name}, from where it may be sent away with"
        " the pictures; give a path elsewhere."
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
  if dataclasses.replace(found, protect=header.protect) == header != found:
    raise UserError(
        "other blocks of its file in OUT_DIR are protected, or none, or in"
        f" other cells; {mend}"
    )
  if found.noise != header.noise:
    def of(noise: str) -> str:
      return f"noise of {noise}" if noise else "no noise"

    raise UserError(
        f"its file in OUT_DIR has {of(found.noise)}, and this run is to make"
        f" one with {of(header.noise)}; {mend}"
    )
  if found != header:
    raise UserError(
        f"its file in OUT_DIR is of a picture of {found.width}x{found.height}"
        f" under scheme '{found.scheme}' with blocks of {found.block}; {mend}"
    )
  if keeper is None:
    return
  entry = keeper.entries.get(_sha256(_read(target)))
  if entry is None:
    changed = "" if keeper.part == WHOLE else (
        ", of which another part may have it if the number of parts has changed"
    )
    raise UserError(
        "the key file does not hold the key of its file in OUT_DIR"
        f"{changed}; {mend}"
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
