"""What the suite attacks: the schemes of the library, and more combinations."""

from ppseg_jax.encryption import (
    BlockScramble,
    NegativePositive,
    PixelShuffle,
    Scheme,
    get_scheme,
)


def _scheme(name: str, *ops) -> Scheme:
  return Scheme(name, ops, leaks="See docs/security.md.", source="A target.")


_IMAGE = PixelShuffle(unit="value", scope="image")

EXTRA = {
    scheme.name: scheme
    for scheme in (
        _scheme("image_pixel", PixelShuffle(unit="pixel", scope="image")),
        _scheme("image_channel", PixelShuffle(unit="channel", scope="image")),
        _scheme("image_cells4",
                PixelShuffle(unit="value", scope="image", cell=4)),
        _scheme("image_half",
                PixelShuffle(unit="value", scope="image", fraction=0.5)),
        _scheme("image_negative_block", _IMAGE,
                NegativePositive(unit="block", scope="block")),
        _scheme("image_negative_value", _IMAGE,
                NegativePositive(unit="value", scope="block")),
        _scheme("scramble", BlockScramble()),
        _scheme("scramble_image", BlockScramble(), _IMAGE),
        _scheme("negative_value",
                NegativePositive(unit="value", scope="block")),
    )
}


def get(name: str) -> Scheme:
  """A scheme of this file or of the library; UserError if unknown."""
  return EXTRA[name] if name in EXTRA else get_scheme(name)
