"""Perceptual encryption of images, keyed by one key an image.

Everything here is a permutation of positions or an invertible map of values:
no scheme hides everything, and `leaks(scheme, plan)` says what each leaves to
see. It is not semantically secure encryption.
"""

from ppseg_jax.encryption.canonical import canonical, canonical_steps
from ppseg_jax.encryption.cipher import decrypt, encrypt
from ppseg_jax.encryption.keys import (
    KEY_PLANS,
    fresh_keys,
    image_keys,
    key_from_seed,
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
    SCHEMES,
    Scheme,
    get_scheme,
    leaks,
    ops_of,
)

__all__ = [
    "KEY_PLANS", "SCHEMES", "BlockScramble", "ColourShuffle",
    "NegativePositive", "NibbleSplit", "PixelShuffle", "RotateFlip", "Scheme",
    "canonical", "canonical_steps", "decrypt", "encrypt", "fresh_keys",
    "get_scheme", "image_keys", "key_from_seed", "leaks", "ops_of",
]
