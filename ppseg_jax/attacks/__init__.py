"""Attacks on the encryption, each a function in a file of its own.

An attack is a function (knowledge, seed, budget) -> Outcome; it raises
UserError where what it needs is not given or the scheme is not one it opens. A
new one is a file and a line in `ATTACKS`.
"""

from ppseg_jax.attacks import (
    brute_force,
    correlation,
    features,
    inversion,
    jigsaw,
    known_plaintext,
    label_map,
    layout,
    likeliest,
    mosaic,
)
from ppseg_jax.attacks.knowledge import Budget, Knowledge, Outcome

ATTACKS = {
    "brute_force": brute_force.attack,
    "known_plaintext": known_plaintext.attack,
    "correlation": correlation.attack,
    "jigsaw": jigsaw.attack,
    "features": features.attack,
    "mosaic": mosaic.attack,
    "likeliest": likeliest.attack,
    "inversion": inversion.attack,
    "layout": layout.attack,
    "label_map": label_map.attack,
}

__all__ = ["ATTACKS", "Budget", "Knowledge", "Outcome"]
