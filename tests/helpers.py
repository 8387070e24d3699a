"""What several tests need."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ppseg_jax import config as config_checks
from ppseg_jax import main
from ppseg_jax.configs import setr_enc
from ppseg_jax.models.setr import SETR, from_config
from ppseg_jax.models.vit import Size

ROOT = Path(__file__).parent.parent

# In the place of `demo`, where a file or a test asks for it: compiles faster.
MINI = Size(32, 2, 2, exact_gelu=False)
# A training and a data set that take seconds.
TINY = (
    "--config.steps=4", "--config.batch_size=8", "--config.log_every=1",
    "--config.checkpoint_every=2", "--config.eval.every=2",
    "--config.data.height=32", "--config.data.width=48",
    "--config.data.train_images=20", "--config.data.val_images=10",
    "--config.panels=2",
)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
  """A smooth coloured picture with some noise, uint8 [H, W, 3]."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
  smooth = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
  noisy = np.asarray(smooth) + rng.normal(0, 8, (height, width, 3))
  return np.clip(noisy, 0, 255).astype(np.uint8)


def make_setr(
    form="plain", patch=8, block=0, grid=(2, 3), num_classes=19, **fields
) -> SETR:
  """A SETR as the config `setr_enc` has it, but without a stem.

  `fields` are those of the config's section `model`; `block` 0 is the patch.
  """
  section = setr_enc.get_config().model
  section.update({"form": form, "patch": patch, "stem": 0, **fields})
  return from_config(section, num_classes, grid, block or patch)


def random_variables(model, height: int, width: int) -> dict:
  """Variables of a model for images of that size, without compiling `init`."""
  shape = jax.ShapeDtypeStruct((1, height, width, 3), jnp.uint8)
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    positive = path[-1].key in ("var", "scale")
    values = rng.uniform(0.5, 1.5, leaf.shape) if positive else (
        rng.normal(0, 0.1, leaf.shape)
    )
    return jnp.asarray(values, leaf.dtype)

  return jax.tree_util.tree_map_with_path(
      draw, jax.eval_shape(model.init, jax.random.key(0), shape)
  )


def tiny_config(**fields):
  """A resolved config on 32x48 images, SGD, with fields like model__norm."""
  config = setr_enc.get_config()
  config.data.height, config.data.width, config.batch_size = 32, 48, 4
  config.optim.update(name="sgd", lr=0.1, warmup=0, weight_decay=0.0, clip=0.0)
  config.model.update(norm="group", aux=True)
  for name, value in fields.items():
    *sections, last = name.split("__")
    section = config
    for part in sections:
      section = section[part]
    section[last] = value
  return config_checks.resolve(config)


def write_camvid(folder: Path, count: int = 3, height=60, width=80) -> Path:
  """A folder in the layout of CamVid with random pictures and labels."""
  rng = np.random.default_rng(0)
  for first, split in ((0, "train"), (100, "val")):
    for kind in ("images", "labels"):
      (folder / split / kind).mkdir(parents=True)
    for i in range(count):
      Image.fromarray(photo(height, width, first + i)).save(
          folder / split / "images" / f"{i:03d}.png"
      )
      labels = rng.integers(0, 12, (height, width)).astype(np.uint8)
      Image.fromarray(labels).save(folder / split / "labels" / f"{i:03d}.png")
  return folder


def main_command(*args: str) -> list[str]:
  return [sys.executable, "-m", "ppseg_jax.main", *args]


def mini_command(*args: str) -> list[str]:
  """The main command on a model of the size MINI."""
  code = (
      "import sys; from ppseg_jax import main; from ppseg_jax.models import vit"
      f"; vit.SIZES['demo'] = vit.Size(*{tuple(MINI)});"
      " sys.exit(main.main(sys.argv[1:]))"
  )
  return [sys.executable, "-c", code, *args]


def call(
    command: Callable[[list[str]], int], *args: str
) -> subprocess.CompletedProcess:
  """Calls a command line's `main` in this process."""
  with (contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err):
    code = command(list(args))
  return subprocess.CompletedProcess(
      args, code, out.getvalue(), err.getvalue()
  )


def run_main(*args: str, devices: int = 0) -> subprocess.CompletedProcess:
  """Calls the main command; in a process of its own if that many devices are
  wanted and this one has not.
  """
  if devices in (0, jax.device_count()):
    return call(main.main, *args)
  env = dict(os.environ)
  env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
  return subprocess.run(
      main_command(*args), cwd=ROOT, env=env, capture_output=True, text=True,
      timeout=600,
  )
