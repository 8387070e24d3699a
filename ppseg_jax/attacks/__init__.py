"""Attacks on the encryption, each a function in a file of its own.

An attack is a function (knowledge, seed, budget) -> Outcome that declares what
it must be told (`parts.knowledge.declare`); it raises UserError where that is
not given or the scheme is not one it opens. A new one is a file and a line in
`ATTACKS`. What several attacks share lies in `parts`: none imports another.
"""

from ppseg_jax.attacks import (
    brute_force,
    chroma,
    containment,
    correlation,
    features,
    inversion,
    jigsaw,
    key_reuse,
    known_plaintext,
    label_map,
    layout,
    likeliest,
    mosaic,
    rank,
    unet,
    unmix,
    views,
)
from ppseg_jax.attacks.parts.knowledge import Budget, Knowledge, Outcome

ATTACKS = {
    "brute_force": brute_force.attack,
    "known_plaintext": known_plaintext.attack,
    "correlation": correlation.attack,
    "jigsaw": jigsaw.attack,
    "features": features.attack,
    "mosaic": mosaic.attack,
    "rank": rank.attack,
    "chroma": chroma.attack,
    "likeliest": likeliest.attack,
    "unet": unet.attack,
    "inversion": inversion.attack,
    "unmix": unmix.attack,
    "layout": layout.attack,
    "label_map": label_map.attack,
    "views": views.attack,
    "key_reuse": key_reuse.attack,
    "containment": containment.attack,
}

__all__ = ["ATTACKS", "Budget", "Knowledge", "Outcome"]
