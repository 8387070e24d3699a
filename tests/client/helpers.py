"""What the tests of the client share."""

import json

import numpy as np
from PIL import Image

from tests.helpers import photo

SIZE = (24, 40)  # few sizes, so that few programs are compiled
NAMES = ("grey.png", "more/two.png", "one.png")


def save(path, pixels, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path, **options)


def pixels(path):
  with Image.open(path) as image:
    return np.asarray(image)


def grey(seed=0):
  return photo(*SIZE, seed)[..., 0].copy()


def encrypt_all(client, *args):
  code, out, err = client(
      "encrypt", "@in", "@out", "--block=8", "--keys=@keys", *args
  )
  assert code == 0, err
  return out


def decrypt_all(client, out="@back"):
  return client("decrypt", "@out", out, "--keys=@keys")


def entries(place):
  return [json.loads(line)
          for line in (place / "keys").read_text().splitlines()[1:]]
