"""The clients of an experiment, played by whoever trains or tests.

All keys come from the experiment's seed, so that it repeats; such keys protect
nothing from those who know the seed.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections

from ppseg_jax.encryption import encrypt, image_keys, key_from_seed
from ppseg_jax.encryption.keys import EVAL, LEFT_OUT, REFINE, TRAIN, derive

# Purposes of the keys derived from an experiment's seed.
INIT, ENCRYPT, DROPOUT = 0, 1, 2

# Of a split that is tested on. Each has keys of its own: image 3 of one is not
# image 3 of another.
SPLITS = {"val": EVAL, "left_out": LEFT_OUT, "train": REFINE}


@dataclasses.dataclass(frozen=True)
class Clients:
  """How the images of an experiment are encrypted, and under which keys.

  Attributes:
    scheme: name of it.
    block: its block size in pixels.
    plan: of the keys, one of `encryption.KEY_PLANS`.
    clients: number of clients a split, for the plan `client`.
    seed: of the experiment.
  """

  scheme: str
  block: int
  plan: str
  clients: int
  seed: int

  def keys(self, batch: dict, split: int) -> jax.Array:
    """The keys of a batch by its `index` and `epoch`, typed [B]."""
    root = derive(key_from_seed(self.seed), ENCRYPT)
    return image_keys(
        self.plan, root, batch["index"], batch["epoch"], split, self.clients
    )

  def encrypt(self, batch: dict, split: int) -> jax.Array:
    """The batch's `image`, uint8 [B, H, W, 3], encrypted each under its key."""
    keys = self.keys(batch, split)
    return encrypt(self.scheme, keys, batch["image"], self.block)


def of_training(config: ml_collections.ConfigDict) -> Clients:
  """Those whose images a config trains on."""
  return Clients(
      config.scheme, config.block, config.key_plan, config.clients, config.seed
  )


def of_test(config: ml_collections.ConfigDict) -> Clients:
  """Those whose images a config tests on."""
  return dataclasses.replace(
      of_training(config), scheme=config.eval.scheme, plan=config.eval.key_plan
  )


def of_refining(config: ml_collections.ConfigDict) -> Clients:
  """Those of `of_test` who fit a refinement at home, on augmented images.

  Keys of an image's own are then fresh at every epoch.
  """
  clients = of_test(config)
  if clients.plan == "image":
    return dataclasses.replace(clients, plan="epoch")
  return clients


def shared_key(seed: int) -> jax.Array:
  """The key of every image under the plan `shared`, typed []."""
  zero = {"index": jnp.zeros(1, jnp.int32), "epoch": jnp.zeros(1, jnp.int32)}
  return Clients("plain", 1, "shared", 1, seed).keys(zero, TRAIN)[0]
