"""Compiled programs, kept for the next start of the same command."""

import hashlib
import os
import platform
import stat
from pathlib import Path

import jax


def keep() -> None:
  """Has jax keep what it compiles in a folder of this user's.

  It is `ppseg_jax/<machine>` below XDG_CACHE_HOME or ~/.cache, and may be
  removed at any time. What lies there is run, so that it is used only where
  nobody else can write it. A folder that jax was given already
  (JAX_COMPILATION_CACHE_DIR) stays, and JAX_ENABLE_COMPILATION_CACHE=false
  keeps nothing.
  """
  if jax.config.jax_compilation_cache_dir or not hasattr(os, "getuid"):
    return
  folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
  try:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ppseg_jax", _machine()):
      folder /= name
      folder.mkdir(mode=0o700, exist_ok=True)
      if not _ours_alone(folder):
        return
  except OSError:  # a home that is read only, or none
    return
  jax.config.update("jax_compilation_cache_dir", str(folder))
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def _ours_alone(folder: Path) -> bool:
  """Whether it is a folder, no link to one, which only this user can write."""
  found = folder.lstat()
  return (stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
          and not found.st_mode & 0o022)


def _machine() -> str:
  """What a program for this kind of processor may rely on.

  A home may be shared by machines whose processors differ; jax does not ask.
  """
  text = platform.machine()
  try:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    text += next((x for x in lines if x.startswith(("flags", "Features"))), "")
  except OSError:  # not Linux
    text += platform.processor()
  return hashlib.sha256(text.encode()).hexdigest()[:16]
