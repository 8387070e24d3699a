"""A run's folder without a training, and a client of few words."""

import http.client
import io
import json
import os
import struct
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ppseg_jax.encryption import get_scheme, reference
from ppseg_jax.runs import checkpoints, workdir
from ppseg_jax.runs import model as models
from ppseg_jax.runs.workdir import Workdir
from tests.helpers import photo, random_variables, tiny_config

ASK = "/v1/segment?scheme=blockwise&block=8"


def write_run(folder, **fields):
  """(the folder, now of a run with random weights; its config)."""
  config = tiny_config(**{
      "optim__ema": 0.0, "data__crop_height": 16, "data__crop_width": 24,
      "model__stem": 0, "model__aux": False, **fields,
  })
  run = Workdir(folder)
  folder.mkdir(parents=True)
  workdir.write_json(run.config, config.to_dict())
  model = models.make(config, models.label_space(config, folder).num_classes)
  manager = checkpoints.open_manager(run.checkpoints, {})
  variables = jax.tree_util.tree_map_with_path(
      # So that the classes of a picture's pixels differ.
      lambda path, x: x * {"bias": 0, "kernel": 5}.get(path[-1].key, 1),
      random_variables(model, config.data.crop_height, config.data.crop_width),
  )
  checkpoints.save(
      manager, 1, {"batch_stats": {}, **variables, "step": jnp.ones((), int)}
  )
  manager.wait_until_finished()
  manager.close()
  return folder, config


def png(pixels) -> bytes:
  file = io.BytesIO()
  Image.fromarray(np.asarray(pixels)).save(file, "PNG", compress_level=1)
  return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
  return (struct.pack(">I", len(data)) + kind + data
          + struct.pack(">I", zlib.crc32(kind + data)))


def cipher(height, width, seed=0, scheme="blockwise"):
  """uint8 [H, W, 3] of a photo under a key that is forgotten."""
  key = np.frombuffer(os.urandom(16), np.uint32)
  return reference.encrypt(
      get_scheme(scheme), key, photo(height, width, seed), 8
  )


class Client:
  """Asks a server on this machine: (status, headers, body)."""

  def __init__(self, port: int):
    self.port = port

  def ask(self, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
    try:
      connection.request(method, path, body, {
          name.replace("_", "-"): value for name, value in headers.items()
      })
      response = connection.getresponse()
      return response.status, response.headers, response.read()
    finally:
      connection.close()

  def get(self, path):
    return self.ask("GET", path)

  def json(self, path):
    return json.loads(self.get(path)[2])

  def segment(self, body, path=ASK, **headers):
    return self.ask("POST", path, body,
                    **{"Content_Type": "image/png", **headers})

  def labels(self, pixels):
    """uint8 [H, W]: the class ids of the answer."""
    status, headers, body = self.segment(png(pixels))
    assert status == 200, body
    assert headers["Content-Type"] == "image/png"
    with Image.open(io.BytesIO(body)) as image:
      assert image.mode == "P"
      return np.asarray(image)

  def logits(self, pixels):
    """float16 [h, w, K]."""
    status, headers, body = self.segment(
        png(pixels), Accept="application/x-npy"
    )
    assert status == 200, body
    assert headers["Content-Type"] == "application/x-npy"
    return np.load(io.BytesIO(body))

  def refusal(self, body, path=ASK, **headers):
    """(status, sentence)."""
    status, _, text = self.segment(body, path, **headers)
    assert status >= 400
    (sentence,) = json.loads(text).values()
    assert "Traceback" not in sentence and "\n" not in sentence
    return status, sentence
