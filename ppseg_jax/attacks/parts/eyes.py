"""Kept libraries that read pictures as people do: text, faces, persons.

Text by RapidOCR (PP-OCRv6, small), faces by OpenCV's cascades, whose they are
by dlib's descriptors of 128 numbers, persons by the detector that comes with
OpenCV (Dalal and Triggs, CVPR 2005). All are of the extra `recognition`; all
weights are in their wheels.
"""

import functools
import importlib.metadata
import importlib.util
import os
from pathlib import Path

import numpy as np
from PIL import Image

from ppseg_jax.attacks.parts.right import Box
from ppseg_jax.client import detect
from ppseg_jax.errors import UserError

_SEEN = 128  # pixels; what is lower is enlarged before it is looked for
_MODULES = {  # that each kind of reader needs, and the packages they are of
    "texts": {"rapidocr": "rapidocr", "onnxruntime": "onnxruntime"},
    "faces": {"cv2": "opencv-python-headless", "dlib": "dlib-bin",
              "face_recognition_models": "face-recognition-models"},
    "persons": {"cv2": "opencv-python-headless"},
}


def check_installed(kind: str) -> None:
  """Raises UserError where a library that reads `kind` is missing."""
  missing = [package for module, package in _MODULES[kind].items()
             if importlib.util.find_spec(module) is None]
  if missing:
    raise UserError(
        f"reading {kind} needs {', '.join(missing)}, not installed; install"
        " with pip install 'ppseg_jax[recognition]'."
    )
  if kind != "texts":
    detect.check_installed()


def versions(kind: str) -> dict[str, str]:
  """Of the packages that read `kind`; '' of one that goes by another name."""
  found = {}
  for package in _MODULES[kind].values():
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # as opencv-python
      found[package] = ""
  return found


def text(image: np.ndarray, box: Box) -> str:
  """The line that is read in the box of an image, uint8 [H, W, 3]; or ''."""
  left, top, right, bottom = (round(x) for x in box)
  line = np.ascontiguousarray(image[top:bottom, left:right, ::-1])
  found = _line_reader()(line)
  return " ".join(found.txts or ())


@functools.cache
def _line_reader():
  # onnxruntime, which rapidocr imports, otherwise tells its makers of its use.
  os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
  import rapidocr

  return rapidocr.RapidOCR(params={
      "Global.log_level": "error",
      "Global.text_score": 0.0,  # whatever it makes of it
      "Global.use_det": False,
      "Global.use_cls": False,
      "EngineConfig.onnxruntime.intra_op_num_threads": 1,
  })


def faces(image: np.ndarray, size: float) -> list[Box]:
  """Boxes of faces that are found in uint8 [H, W, 3].

  `size` is about how high they are: those of less than half are not looked for,
  and what is small is enlarged first.
  """
  return _enlarged(
      lambda large, size: detect.faces(large, round(size / 2)), image, size
  )


def persons(image: np.ndarray, size: float) -> list[Box]:
  """Boxes of people; what is small is enlarged first."""
  return _enlarged(lambda large, _: _people(large), image, size)


def _enlarged(find, image: np.ndarray, size: float) -> list[Box]:
  times = max(1, -(-_SEEN // round(size)))
  height, width, _ = image.shape
  large = Image.fromarray(image).resize(
      (width * times, height * times), Image.Resampling.BICUBIC
  )
  boxes = find(np.asarray(large), size * times)
  return [tuple(x / times for x in box) for box in boxes]


def _people(image: np.ndarray) -> list[Box]:
  boxes, _ = _people_finder().detectMultiScale(
      np.ascontiguousarray(image[..., ::-1])
  )
  # A person fills about three quarters of the detector's window, high and half
  # as wide.
  return [(x + w / 8, y + h / 8, x + 7 * w / 8, y + 7 * h / 8)
          for x, y, w, h in (map(int, box) for box in boxes)]


@functools.cache
def _people_finder():
  import cv2

  found = cv2.HOGDescriptor()
  found.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())
  return found


def describe(image: np.ndarray, box: Box) -> np.ndarray:
  """128 numbers that tell faces apart, of the face in the box; float [128]."""
  import dlib

  marks, descriptor = _dlib()
  image = np.ascontiguousarray(image)
  shape = marks(image, dlib.rectangle(*(round(x) for x in box)))
  return np.array(descriptor.compute_face_descriptor(image, shape))


@functools.cache
def _dlib():
  import dlib

  # Importing the package asks for setuptools, only to find these two files.
  spec = importlib.util.find_spec("face_recognition_models")
  folder = Path(spec.submodule_search_locations[0], "models")
  marks = folder / "shape_predictor_68_face_landmarks.dat"
  network = folder / "dlib_face_recognition_resnet_model_v1.dat"
  return (dlib.shape_predictor(str(marks)),
          dlib.face_recognition_model_v1(str(network)))
