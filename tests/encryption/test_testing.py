"""check_scheme passes every scheme, and catches wrong ones."""

import os
import subprocess
import sys

import jax.numpy as jnp
import pytest

from ppseg_jax.encryption import SCHEMES, NegativePositive, PixelShuffle, Scheme
from ppseg_jax.encryption.permutations import permutation
from ppseg_jax.testing import check_scheme
from tests.helpers import ROOT

_SAME = ("kiya2022", "sueyoshi2025")  # the cipher of independent
_CIPHERS = [name for name in SCHEMES if name not in _SAME]


@pytest.mark.parametrize("name", _CIPHERS)
def test_every_scheme_passes(name):
  check_scheme(name)


class Biased(PixelShuffle):
  """The naive shuffle: each place swaps with any, not with a later one."""

  def _move(self, stream, blocks, way):
    p, n, c = blocks.shape
    words = stream.words(p, jnp.arange(n, dtype=jnp.uint32))
    perm = jnp.broadcast_to(jnp.arange(p)[:, None], (p, n))
    column = jnp.arange(n)
    for i in range(p):
      j = (words[i] >> 8) % p
      at_i, at_j = perm[i], perm[j, column]
      perm = perm.at[j, column].set(at_i).at[i].set(at_j)
    return jnp.take_along_axis(blocks, way(perm)[..., None], axis=0)


class Reused(PixelShuffle):
  """Says scope block, but every block gets the first one's permutation."""

  def _move(self, stream, blocks, way):
    return PixelShuffle(self.unit, "image")._move(stream, blocks, way)


class Lossy(NegativePositive):
  """Adds a random bit to each value, but not around the corner."""

  def encrypt(self, stream, blocks, grid, top=255):
    bits = stream.bits(1, jnp.arange(blocks.shape[1], dtype=jnp.uint32))
    return jnp.where(bits[..., None] & (blocks < top), blocks + 1, blocks)

  def decrypt(self, stream, blocks, grid, top=255):
    bits = stream.bits(1, jnp.arange(blocks.shape[1], dtype=jnp.uint32))
    return jnp.where(bits[..., None] & (blocks > 0), blocks - 1, blocks)


class Joint(PixelShuffle):
  """Says unit channel, but moves all channels by one permutation."""

  def _move(self, stream, blocks, way):
    return PixelShuffle("pixel", self.scope)._move(stream, blocks, way)


class Alternating(PixelShuffle):
  """Two permutations for all blocks of the image."""

  def _move(self, stream, blocks, way):
    p, n, _ = blocks.shape
    column = jnp.arange(n, dtype=jnp.uint32) % 2
    perm = way(permutation(stream, p, column))
    return jnp.take_along_axis(blocks, perm[..., None], axis=0)


class Sparing(NegativePositive):
  """Says unit value, but has one bit for all channels of a pixel."""

  def encrypt(self, stream, blocks, grid, top=255):
    return NegativePositive("pixel", self.scope).encrypt(stream, blocks, grid)

  decrypt = encrypt


@pytest.mark.parametrize("op, failure", [
    (Joint("channel", "block"), "leaks more than its canonical form"),
    (Alternating("pixel", "block"), "for blocks 0 and 2"),
    (Sparing("value", "block"), "leaks more than its canonical form"),
    (Biased("pixel", "block"), "leaks more than its canonical form"),
    (Reused("value", "block"), "the same random choice for every block"),
    (Lossy("block", "block"), "not inverted by decrypt"),
], ids=["joint", "alternating", "sparing", "biased", "reused", "lossy"])
def test_broken_schemes_are_caught(op, failure):
  scheme = Scheme(name="broken", ops=(op,), leaks="", source="")
  with pytest.raises(AssertionError, match=failure):
    check_scheme(scheme)


@pytest.mark.parametrize("op, block", [
    (PixelShuffle("value", "block", cell=4), 8),
    (PixelShuffle("value", "block", cell=1), 4),
    (NegativePositive("block", "image"), 4),
], ids=str)
def test_sound_schemes_of_few_choices_or_large_cells_pass(op, block):
  check_scheme(Scheme(name="mine", ops=(op,), leaks="", source=""), block)


_SHARDED = """
import sys
from ppseg_jax.encryption import encrypt, fresh_keys
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
assert jax.device_count() == 8
mesh = Mesh(np.array(jax.devices()), "data")
place = NamedSharding(mesh, PartitionSpec("data"))
images = np.random.default_rng(0).integers(0, 256, (8, 32, 64, 3), np.uint8)
keys = fresh_keys(8)
for name in sys.argv[1:]:
  f = lambda k, x: encrypt(name, k, x, 4)
  sharded = jax.jit(f, in_shardings=(place, place), out_shardings=place).lower(
      keys, images).compile()
  one = jax.jit(f)(keys, images)
  there = jax.device_put((keys, images), place)
  assert (np.asarray(sharded(*there)) == np.asarray(one)).all(), name
  # Each device encrypts its own images: nothing is sent.
  text = sharded.as_text()
  assert "all-gather" not in text and "all-to-all" not in text, name
print("same")
"""


def test_sharded_equals_unsharded():
  env = os.environ | {
      "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
      "JAX_PLATFORMS": "cpu",
  }
  result = subprocess.run(
      [sys.executable, "-c", _SHARDED, *_CIPHERS], cwd=ROOT, env=env, text=True,
      capture_output=True,
  )
  assert result.returncode == 0 and "same" in result.stdout, result.stderr
