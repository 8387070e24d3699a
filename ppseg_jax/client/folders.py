"""Encrypting and decrypting folders of pictures.

A picture whose file in the output exists already is left alone, so that the
same command again goes on where it was stopped. Of two commands that run at
once on one output folder, each file is the work of one.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path, PurePath

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax import encryption, pictures
from ppseg_jax.client import files, keyfile, walk
from ppseg_jax.client.walk import Summary
from ppseg_jax.encryption import Scheme, fresh_keys
from ppseg_jax.errors import UserError


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
    padding: pad pictures to whole blocks, which shows more of their last rows
      and columns (`pictures.pad`); otherwise those that need it fail.

  Raises:
    UserError: where nothing can be done at all.
  """
  _check_folders(source, out)
  if keys is not None:
    _check_away(keys, source, out)
  pictures.check_block(block)
  paths, skipped = walk.find_pictures(source)
  walk.check_clashes(source, paths)
  keeper = keyfile.KeyFile(keys, out) if keys is not None else None
  padded = []

  def one(path: Path, output: files.Output) -> bool:
    plain = pictures.read_picture(source / path)
    height, width = plain.shape[:2]
    header = pictures.Header(scheme.name, block, width, height)
    partial = height % block or width % block
    if partial and not padding:
      raise UserError(
          f"its size {width}x{height} is not a multiple of the block size"
          f" {block}; crop it, choose another --block, or leave out --no-pad."
      )
    name = path.with_suffix(".png")
    fresh = not output.has(name) and _encrypt_one(
        scheme, plain, header, name, output, keeper
    )
    if not fresh:
      _check_done(out / name, header, plain, keeper)
    if partial:
      padded.append(path.as_posix())
    return fresh

  try:
    with files.Output(out) as output:
      summary = walk.each("encrypted", paths, output, one)
  finally:
    if keeper is not None:
      keeper.close()
  return dataclasses.replace(summary, skipped=skipped, padded=padded)


def _encrypt_one(
    scheme: Scheme,
    plain: np.ndarray,
    header: pictures.Header,
    name: PurePath,
    output: files.Output,
    keeper: keyfile.KeyFile | None,
) -> bool:
  """Writes a ciphertext under a fresh key; False where its name is taken.

  Its key is on the disk before, so that no ciphertext is without: a key whose
  ciphertext was then not written stays unused.
  """
  key = fresh_keys(1)[0]
  cipher = _encrypt(
      scheme, key, pictures.pad(plain, header.block), header.block
  )
  content = pictures.encode(cipher, header)
  if keeper is not None:
    keeper.add(keyfile.Entry(
        name=name.as_posix(), scheme=scheme.name, block=header.block,
        width=header.width, height=header.height, key=keyfile.to_hex(key),
        sha256=_sha256(content), plain_sha256=_sha256(plain.tobytes()),
    ))
  return output.write(name, content)


def decrypt_folder(
    source: Path, out: Path, keys: Path, scheme: Scheme | None = None
) -> Summary:
  """Gives back the pictures of a folder of ciphertexts, for their owner alone.

  The files have mode 0600, and folders that are made 0700. A ciphertext that
  another program wrote anew, its pixels unchanged, is opened by the keys of its
  name: the plain image's hash says which is right.

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
  by_name = {}
  for entry in entries:
    by_name.setdefault(entry.name, []).append(entry)
  known = encryption.SCHEMES | ({scheme.name: scheme} if scheme else {})
  paths, skipped = walk.find_pictures(source)
  walk.check_clashes(source, paths)

  def one(path: Path, output: files.Output) -> bool:
    name = path.with_suffix(".png")
    entry = by_hash.get(_sha256(_read(source / path)))
    named = by_name.get(name.as_posix(), [])
    try:
      cipher, header = pictures.read_cipher(source / path)
    except UserError:
      if not named:
        raise
      # What writes a PNG anew may drop the text fields.
      cipher, header = pictures.read_picture(source / path), None
    if entry is None and not named:
      raise UserError(
          "the key file has no key of it; give the one written when it was"
          " encrypted."
      )
    if entry is not None and output.has(name):
      _check_restored(out / name, entry)
      return False
    tried = [entry] if entry is not None else named[::-1]
    for candidate in tried:
      plain = _open(cipher, header, candidate, known)
      if plain is not None:
        break
    else:
      raise UserError(
          "the key file's key is not of this file, which was changed since it"
          " was encrypted or is of another run; get the file again."
          if entry is None else
          "the key that the key file has for it does not open it; restore the"
          " key file from a copy."
      )
    if not output.has(name) and output.write(name, pictures.encode(plain)):
      return True
    _check_restored(out / name, candidate)
    return False

  with files.Output(out, private=True) as output:
    summary = walk.each("decrypted", paths, output, one)
  return dataclasses.replace(summary, skipped=skipped)


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
  padded = np.asarray(_jit_decrypt(
      known[entry.scheme], keyfile.from_hex(entry.key), cipher, entry.block
  ))
  size = entry if entry.width else header
  plain = padded[:size.height, :size.width] if size else padded
  return plain if _sha256(plain.tobytes()) == entry.plain_sha256 else None


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


def _read(path: Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise UserError(
        f"{path} cannot be read ({error.strerror}); mend or move it."
    ) from None


def _sha256(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()


def _check_folders(source: Path, out: Path) -> None:
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


def _check_away(keys: Path, source: Path, out: Path) -> None:
  where = keys.parent.resolve() / keys.name
  for name, folder in (("OUT_DIR", out), ("IN_DIR", source)):
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
  if found != header:
    raise UserError(
        f"its file in OUT_DIR is of a picture of {found.width}x{found.height}"
        f" under scheme '{found.scheme}' with blocks of {found.block}; {mend}"
    )
  if keeper is None:
    return
  entry = keeper.entries.get(_sha256(_read(target)))
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
