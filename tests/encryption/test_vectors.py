"""The ciphertext format: JAX, the NumPy reference and the checked-in vectors.

`python -m tests.encryption.test_vectors` writes the vectors anew, from the
reference.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppseg_jax.encryption import (
    SCHEMES,
    encrypt,
    key_from_seed,
    reference,
    regions,
)
from ppseg_jax.encryption.keys import IMPL, derive
from ppseg_jax.encryption.permutations import permutation
from ppseg_jax.encryption.threefry import Stream, threefry
from tests.helpers import ROOT

FILE = ROOT / "tests" / "encryption" / "vectors.json"
KEY = np.array([0x00010203, 0x04050607, 0x08090A0B, 0x0C0D0E0F], np.uint32)

CELLS = np.array([[1, 0, 2], [1, 0, 2]])


def image():
  y, x, c = np.ogrid[:8, :12, :3]
  return ((37 * y + 11 * x + 101 * c + x * y * y) % 256).astype(np.uint8)


def make():
  return {
      "key": KEY.tolist(),
      "image": image().tobytes().hex(),
      "shape": list(image().shape),
      "block": 4,
      "derived_5_7": reference.derive(KEY, 5, 7).tolist(),
      "permutation_of_768_stream_512_column_3":
          reference.permutation(KEY, 512, 3, 768).tolist(),
      "ciphertexts": {
          name: reference.encrypt(scheme, KEY, image(), 4).tobytes().hex()
          for name, scheme in SCHEMES.items()
      },
      "cells": CELLS.tolist(),
      "merged": {
          unit: reference.merge(unit, KEY, image(), CELLS, 4).tobytes().hex()
          for unit in ("value", "channel", "pixel")
      },
  }


VECTORS = json.loads(FILE.read_text()) if FILE.exists() else make()


def test_the_reference_gives_the_vectors():
  assert make() == VECTORS


@pytest.mark.parametrize("name", SCHEMES)
def test_ciphertexts_are_the_vectors(name):
  key = jax.random.wrap_key_data(KEY, impl=IMPL)
  cipher = np.asarray(encrypt(name, key, image(), 4))
  assert cipher.tobytes().hex() == VECTORS["ciphertexts"][name]


@pytest.mark.parametrize("scheme, unit", [
    ("blockwise", "channel"), ("blockwise_value", "value"),
    ("blockwise_pixel", "pixel"),
])
def test_merged_regions_are_the_vectors(scheme, unit):
  key = jax.random.wrap_key_data(KEY, impl=IMPL)
  merged = regions.merge(scheme, key, image(), CELLS, 4)
  assert np.asarray(merged).tobytes().hex() == VECTORS["merged"][unit]


def test_derived_keys_and_permutations_are_the_vectors():
  key = derive(jax.random.wrap_key_data(KEY, impl=IMPL), 5, 7)
  assert jax.random.key_data(key).tolist() == VECTORS["derived_5_7"]
  columns = jnp.arange(9, dtype=jnp.uint32)
  perm = permutation(Stream(jnp.asarray(KEY), 512), 768, columns)[:, 3]
  assert perm.tolist() == VECTORS["permutation_of_768_stream_512_column_3"]


def test_a_seed_is_the_low_and_the_high_word_of_the_key():
  data = jax.random.key_data(key_from_seed(2**40 + 7))
  assert data.tolist() == [7, 256, 0, 0]


# Random123, kat_vectors, threefry4x32 with 20 rounds: counter, key, words.
PI = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0,
      0x082EFA98, 0xEC4E6C89]
ONES = [0xFFFFFFFF] * 4


@pytest.mark.parametrize("counter, key, expected", [
    ([0] * 4, [0] * 4, [0x9C6CA96A, 0xE17EAE66, 0xFC10ECD4, 0x5256A7D8]),
    (ONES, ONES, [0x2A881696, 0x57012287, 0xF6C7446E, 0xA16A6732]),
    (PI[:4], PI[4:], [0x59CD1DBB, 0xB8879579, 0x86B5D00C, 0xAC8B6D84]),
])
def test_threefry_gives_the_published_vectors(counter, key, expected):
  counter, key = np.array(counter, np.uint32), np.array(key, np.uint32)
  words = threefry(jnp.asarray(key), tuple(jnp.asarray(counter)))
  assert [int(word) for word in words] == expected
  assert reference.threefry(key, counter).tolist() == expected


if __name__ == "__main__":
  FILE.write_text(json.dumps(make(), indent=1) + "\n")
