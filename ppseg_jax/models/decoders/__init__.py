"""Decoders: from the encoder's tokens to logits.

A decoder is a Flax module with the fields `num_classes`, `norm` (a key of
`parts.NORMS`), `aux` (whether it has auxiliary heads) and `dtype`, and others
that a config's section `model` has by that name; a class attribute `per_token`,
true where the logits of a patch are a function of its own token; a method
`layers(depth)`, the encoder's layers, from 1, whose raw output it reads; and
the call

    (x [B, h, w, D], layers, one [B, h, w, D] each, train)
        -> (logits, auxiliary logits, a tuple), [B, any size, K] each

where x is the last layer's normalised output. Auxiliary logits are computed in
training only. A new one is a file here and a line in DECODERS.
"""

from ppseg_jax.models.decoders.mla import MLA
from ppseg_jax.models.decoders.naive import Naive
from ppseg_jax.models.decoders.pup import PUP

DECODERS = {"naive": Naive, "pup": PUP, "mla": MLA}
