"""A scheme of one's own: `blockwise` that also hides which channel is which.

    --config.scheme=tests/examples/colours.py:COLOURS
"""

from ppseg_jax.encryption import ColourShuffle, PixelShuffle, Scheme

COLOURS = Scheme(
    name="blockwise_colours",
    ops=(ColourShuffle(unit="block", scope="block"),
         PixelShuffle(unit="channel", scope="block")),
    leaks="For each block, at its place, the histograms of its channels, not"
    " which channel each is of; of one picture under a key used once.",
    source="An example of docs/extending.md.",
)
