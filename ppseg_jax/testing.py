"""What tests of a scheme of one's own need."""

from ppseg_jax.encryption.testing import check_scheme

__all__ = ["check_scheme"]
