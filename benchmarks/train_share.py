"""The share of encryption in a train step.

python -m benchmarks.train_share --config=configs/setr_enc.py

Times the jitted train step of the config on a batch of random images, and the
same step with the scheme `plain`, in turns; the difference of the least times
is what encryption costs.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app
from ml_collections import config_flags

from ppseg_jax import config as config_checks
from ppseg_jax import data, optim, train
from ppseg_jax.runs import model as models
from ppseg_jax.runs.start import make_init

_CONFIG = config_flags.DEFINE_config_file("config")


def main(_):
  config = config_checks.resolve(_CONFIG.value)
  source = data.load(config.data, "train")
  model = models.make(config, len(source.label_space.names))
  optimizer = optim.make_optimizer(config.optim, config.steps)
  state = jax.jit(make_init(config, model, optimizer))()
  shape = (config.batch_size, config.data.crop_height, config.data.crop_width)
  rng = np.random.default_rng(0)
  batch = {
      "image": jnp.asarray(rng.integers(0, 256, (*shape, 3), np.uint8)),
      "label": jnp.asarray(rng.integers(0, 19, shape, np.uint8)),
      "index": jnp.arange(shape[0]), "epoch": jnp.zeros(shape[0], jnp.int32),
  }
  steps, times = {}, {}
  for scheme in (config.scheme, "plain"):
    config.scheme = scheme
    step = jax.jit(train.make_update(config, model, optimizer))
    steps[scheme] = step.lower(state, batch).compile()
    times[scheme] = []
  for _ in range(12):
    for scheme, step in steps.items():
      start = time.perf_counter()
      jax.block_until_ready(step(state, batch))
      times[scheme].append(time.perf_counter() - start)
  (scheme, whole), (_, plain) = ((k, min(v)) for k, v in times.items())
  print(f"step with {scheme} {1e3 * whole:.0f} ms, with plain"
        f" {1e3 * plain:.0f} ms: encryption is"
        f" {100 * (whole - plain) / whole:.1f} % of it")


if __name__ == "__main__":
  app.run(main)
