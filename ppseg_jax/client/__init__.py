"""The client: owns pictures, encrypts them locally, keeps or forgets the keys.

The command line is `python -m ppseg_jax.client`; `--help` says how.
"""

from ppseg_jax.client.contribute import contribute_folder
from ppseg_jax.client.folders import decrypt_folder, encrypt_folder
from ppseg_jax.client.parts import Part
from ppseg_jax.client.show import panels
from ppseg_jax.client.walk import Summary

__all__ = [
    "Part", "Summary", "contribute_folder", "decrypt_folder", "encrypt_folder",
    "panels",
]
