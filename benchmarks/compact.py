"""Bytes of a picture: plain, encrypted, and in compact form at each level.

python -m benchmarks.compact --dir=/data/camvid/val/images --json=compact.json

Means over pictures of a folder, resized (bilinear) to each size.
"""

import io
import json
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from PIL import Image

from ppseg_jax import pictures
from ppseg_jax.data.sizes import resize
from ppseg_jax.encryption import at_level, compact, encrypt, fresh_keys, release

_DIR = flags.DEFINE_string("dir", "", "Folder of pictures.")
_IMAGES = flags.DEFINE_integer("images", 10, "How many, evenly spread.")
_JSON = flags.DEFINE_string("json", "", "File to write.")
_SIZES = ((96, 128), (352, 480))
_LEVELS = ("", "q16", "q4", "q4b5", "m2q4", "q1")


def jpeg(image: np.ndarray) -> bytes:
  file = io.BytesIO()
  Image.fromarray(image).save(file, format="JPEG", quality=90)
  return file.getvalue()


def main(_):
  paths = sorted(pictures.list_pictures(Path(_DIR.value))[0])
  paths = [paths[i] for i in np.linspace(0, len(paths) - 1, _IMAGES.value)
           .astype(int)]
  whole = [pictures.read_rgb(path) for path in paths]
  seal = jax.jit(encrypt, static_argnums=(0, 3))
  show = jax.jit(release, static_argnums=(0, 1, 3))
  rows = []
  for size in _SIZES:
    images = [resize(image, size) for image in whole]
    for block in (8, 16):
      for level in _LEVELS:
        scheme = at_level("blockwise", level) if level else "blockwise"
        counts = {"png": [], "jpeg": [], "cipher": [], "form": [],
                  "compact": []}
        for image in images:
          shown = np.asarray(show("blockwise", level, image, block))
          # Of a level the ciphertext is that of the image that carries it.
          sealed = np.asarray(seal("blockwise", fresh_keys(1)[0], shown, block))
          for what, content in (
              ("png", pictures.encode(image)), ("jpeg", jpeg(image)),
              ("cipher", pictures.encode(sealed)),
              ("form", pictures.encode(shown)),
              ("compact", compact.encode(scheme, shown, block)),
          ):
            counts[what].append(len(content))
        row = {"size": size, "block": block, "level": level}
        rows.append(row | {k: round(np.mean(v)) for k, v in counts.items()})
        print(rows[-1], flush=True)
  if _JSON.value:
    Path(_JSON.value).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
  app.run(main)
