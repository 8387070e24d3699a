"""The values of each block laid out in the order of a picture."""

import numpy as np


def by_rank(values: np.ndarray, picture: np.ndarray) -> np.ndarray:
  """Of all orders of the values in each block the one nearest to the picture.

  The least value goes where the picture is least, and so on, which no other
  order betters in squared error.

  Args:
    values: [B, N, P, C], of N blocks with P positions each, sorted by position.
    picture: of the same shape.

  Returns:
    [B, N, P, C] of the dtype of `values`, each channel in an order of its own.
  """
  order = picture.argsort(2, kind="stable")
  laid = np.empty_like(values)
  np.put_along_axis(laid, order, values, 2)
  return laid
