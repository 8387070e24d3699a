"""The README's picture: plain | what the cloud holds | attacked | map.

python -m benchmarks.picture --config=configs/setr_enc.py:camvid \
    --config.data.dir=/data/camvid --workdir=runs/camvid/blockwise-0 \
    --index=40 --out=docs/panel.png

An image of the test split, its ciphertext, what the attack `rank` makes of the
ciphertext alone, and the trained model's labels for the ciphertext.
"""

from pathlib import Path

import jax
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from ppseg_jax import config as config_checks
from ppseg_jax import data, evaluate, sharding, viz
from ppseg_jax.attacks import ATTACKS, Budget, Knowledge
from ppseg_jax.encryption import get_scheme
from ppseg_jax.runs import keys
from ppseg_jax.runs import model as models
from ppseg_jax.windows import windows_of

_CONFIG = config_flags.DEFINE_config_file("config")
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the trained run.")
_INDEX = flags.DEFINE_integer("index", 0, "Of the image in the test split.")
_OUT = flags.DEFINE_string("out", "panel.png", "File to write.")


def main(_):
  logging.set_verbosity(logging.ERROR)
  config = config_checks.resolve(_CONFIG.value)
  source = data.load(config.data, config.eval.split)
  space = source.label_space
  trained = models.load(
      config, Path(_WORKDIR.value), space.num_classes,
      sharding.make_mesh(config.mesh),
  )
  answer = jax.jit(evaluate.make_answer(
      trained.model, keys.of_test(config), keys.SPLITS[config.eval.split],
      windows_of(config),
  ))
  plain, _ = source[_INDEX.value]
  seen, logits = answer(trained.variables, {
      "image": plain[None], "index": np.array([_INDEX.value]),
      "epoch": np.array([0]),
  })
  found = ATTACKS["rank"](
      Knowledge(np.asarray(seen), get_scheme(config.eval.scheme),
                config.block),
      config.seed, Budget(),
  )
  labels = np.asarray(logits)[0].argmax(-1).astype(np.uint8)
  viz.save_png(Path(_OUT.value), viz.panel({
      "plain": plain,
      "what the cloud holds": np.asarray(seen)[0],
      "what an attack makes of it": found.images[0],
      "the map that comes back": space.colourise(labels),
  }))


if __name__ == "__main__":
  app.run(main)
