"""What the suite attacks: the schemes of the library, and more combinations."""

from ppseg_jax.encryption import (
    SCHEMES,
    BlockScramble,
    NegativePositive,
    PixelShuffle,
    Scheme,
    get_scheme,
)
from ppseg_jax.encryption.layout import hide_layout
from ppseg_jax.errors import UserError


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
        hide_layout("blockwise", 2),
    )
}


def get(name: str) -> Scheme:
  """One of this file, else of the library or FILE.py:NAME, or UserError."""
  if name in EXTRA:
    return EXTRA[name]
  if name not in SCHEMES and ":" not in name:
    raise UserError(
        f"schemes: '{name}' is none of {', '.join(SCHEMES | EXTRA)}, nor"
        " FILE.py:NAME."
    )
  return get_scheme(name)
