"""The experiments, as `ppseg_jax.configs.setr_enc` and so on.

In a checkout they lie in `configs/` at its top, which this module stands for.
Installed, that folder lies here, and Python takes it in place of this module.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[1] / "configs")]
