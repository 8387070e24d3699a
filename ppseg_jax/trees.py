"""Leaves of a tree of parameters, by name."""

from typing import Any

import jax


def path_name(path: tuple) -> str:
  """A leaf's path as jax.tree_util gives it, as `params/encoder/embed`."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: Any) -> dict[str, Any]:
  """{name: leaf} of any pytree, in its order."""
  return {
      path_name(path): leaf
      for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
