"""Semantic segmentation on images encrypted each under its own key, in JAX."""

__version__ = "0.1.0"
