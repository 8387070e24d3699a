"""Perceptual encryption of images, keyed by one key an image.

Everything here is a permutation of positions or an invertible map of values:
no scheme hides everything, and `leaks(scheme, plan)` says what each leaves to
see. It is not semantically secure encryption.

Whoever only reads what keys leave, as a model does, imports nothing that takes
a key: those names are looked up when they are first asked for.
"""

import importlib

from ppseg_jax.encryption.canonical import (
    canonical,
    canonical_steps,
    release,
    representative,
)
from ppseg_jax.encryption.ops import (
    BlockScramble,
    ColourShuffle,
    NegativePositive,
    NibbleSplit,
    PixelShuffle,
    RotateFlip,
)
from ppseg_jax.encryption.schemes import (
    KEY_PLANS,
    SCHEMES,
    Scheme,
    at_level,
    get_scheme,
    leaks,
    ops_of,
    takes_key,
)

# Name -> the module that has it, of all that takes or makes keys.
KEYED = {
    "decrypt": "cipher", "encrypt": "cipher", "fresh_keys": "keys",
    "image_keys": "keys", "key_from_seed": "keys",
}

__all__ = [
    "KEY_PLANS", "SCHEMES", "BlockScramble", "ColourShuffle",
    "NegativePositive", "NibbleSplit", "PixelShuffle", "RotateFlip", "Scheme",
    "at_level", "canonical", "canonical_steps", "decrypt", "encrypt",
    "fresh_keys", "get_scheme", "image_keys", "key_from_seed", "leaks",
    "ops_of", "release", "representative", "takes_key",
]


def __getattr__(name: str) -> object:
  if name not in KEYED:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{KEYED[name]}"), name)
