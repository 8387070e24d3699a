"""What a step gives back is there for the next one."""

import os
import platform
import subprocess
import sys

import pytest

# Steps of 64 MB each, which glibc would otherwise give back at once.
STEPS = """
import resource
import jax
from ppseg_jax import memory

memory.keep()
step = jax.jit(lambda a, b: ((a @ b) @ a)[0, 0])
a, b = jax.numpy.ones((4096, 4)), jax.numpy.ones((4, 4096))
for _ in range(3):
  step(a, b).block_until_ready()
found = []
for _ in range(3):  # a thread that gives back late costs a step one mapping
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  for _ in range(4):
    step(a, b).block_until_ready()
  found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(found))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_steps_use_the_memory_of_the_steps_before():
  done = subprocess.run(
      [sys.executable, "-c", STEPS], check=True, capture_output=True, text=True,
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  pages = 4 * 2**26 / 4096  # that are mapped anew otherwise
  assert int(done.stdout) < pages / 10
