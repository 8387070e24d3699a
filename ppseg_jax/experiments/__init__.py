"""Comparisons: suites of runs with several seeds, and the report of them."""

from ppseg_jax.experiments.suite import Row, Run

__all__ = ["Row", "Run"]
