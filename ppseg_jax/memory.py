"""The memory of steps on a CPU, kept from one to the next."""

import ctypes
import platform

import jax

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep() -> None:
  """Has glibc keep for the next step what a step on a CPU gives back.

  By default it returns blocks of this size to the system, which has to clear
  every page of them again when the next step asks for as much: a fifth of the
  demo's processor time. Only the thread that a process began with can keep
  blocks of any size, so that steps of a single device are run in it, if their
  batch is `settled`. What is kept goes back when the process ends. Does nothing
  with another C library, or where steps run elsewhere.

  To be called before JAX's first use of a device.
  """
  jax.config.update("jax_cpu_enable_async_dispatch", False)
  if not _on_cpu() or platform.libc_ver()[0] != "glibc":
    return
  libc = ctypes.CDLL(None)
  libc.mallopt(_MMAP_MAX, 0)
  libc.mallopt(_TRIM_THRESHOLD, -1)


def settled(batch: dict) -> dict:
  """The batch, on a CPU once it is there.

  A step that would have to wait for it is run by another thread.
  """
  return jax.block_until_ready(batch) if _on_cpu() else batch


def _on_cpu() -> bool:
  return jax.default_backend() == "cpu"
