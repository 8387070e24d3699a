"""Faces and licence plates found in a picture, here and by nobody else.

By the cascades that come with OpenCV (Viola and Jones, CVPR 2001): faces from
the front and from both sides, and plates. They miss many: small, turned, dark
or covered ones. What they find besides costs accuracy there, and no privacy, so
that they are set to find more rather than less.
"""

import functools
import importlib.util
import threading

import numpy as np

from ppseg_jax.errors import UserError

_FACES = ("haarcascade_frontalface_alt2.xml", "haarcascade_profileface.xml")
_PLATES = ("haarcascade_russian_plate_number.xml",)
_STEP = 1.05  # from a size to the next
_AGREE = 2  # detections next to one another that make one
_GROWN = 0.25  # of a box's sides, added on each of them
_here = threading.local()  # a classifier works for one thread


def check_installed() -> None:
  """Raises UserError where OpenCV 4 is missing."""
  if importlib.util.find_spec("cv2") is not None:
    import cv2

    if hasattr(cv2, "CascadeClassifier") and hasattr(cv2, "data"):
      return
  raise UserError(
      "--protect=faces needs OpenCV 4, which is not installed; install it with"
      " pip install 'ppseg_jax[recognition]', or give boxes in a file."
  )


def version() -> str:
  """Of OpenCV, whose cascades may find other things in another."""
  import cv2

  return f"OpenCV {cv2.__version__}"


def boxes(image: np.ndarray) -> list[tuple[float, float, float, float]]:
  """(left, top, right, bottom) in pixels of all that is found, grown a little.

  Args:
    image: uint8 [H, W, 1 or 3].
  """
  return [grown(box) for box in _found(image, _FACES + _PLATES)]


def faces(
    image: np.ndarray, smallest: int
) -> list[tuple[float, float, float, float]]:
  """`boxes` of the faces alone, as they are found, from so many pixels on."""
  return _found(image, _FACES, smallest)


def grown(
    box: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
  """The box with a little more on each side."""
  left, top, right, bottom = box
  across, down = _GROWN * (right - left), _GROWN * (bottom - top)
  return left - across, top - down, right + across, bottom + down


def _found(image: np.ndarray, names: tuple[str, ...], smallest: int = 0):
  import cv2

  grey = image[..., 0]
  if image.shape[2] == 3:
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
  grey = cv2.equalizeHist(np.ascontiguousarray(grey))
  width = grey.shape[1]
  found = []
  for name in names:
    cascade = _cascade(name)
    at = [tuple(map(int, box)) for box in cascade.detectMultiScale(
        grey, scaleFactor=_STEP, minNeighbors=_AGREE, minSize=(smallest,) * 2
    )]
    if "profile" in name:  # which knows faces that look to the left
      mirrored = np.ascontiguousarray(grey[:, ::-1])
      at += [(width - x - w, y, w, h) for x, y, w, h in (
          tuple(map(int, box)) for box in cascade.detectMultiScale(
              mirrored, scaleFactor=_STEP, minNeighbors=_AGREE,
              minSize=(smallest,) * 2,
          )
      )]
    found += at
  return [(x, y, x + w, y + h) for x, y, w, h in found]


def _cascade(name: str):
  if not hasattr(_here, "of"):
    _here.of = functools.cache(_read)
  return _here.of(name)


def _read(name: str):
  import cv2

  return cv2.CascadeClassifier(cv2.data.haarcascades + name)
