"""Attacks on the schemes, to see what each gives away.

python -m ppseg_jax.attacks --config=configs/attacks.py --workdir=runs/attacks
    Street scenes drawn on the fly.
python -m ppseg_jax.attacks --config=configs/attacks.py:camvid \
    --config.data.dir=/data/camvid --workdir=runs/attacks_camvid
    Real street scenes, whole; docs/security.md has figures, of smaller ones
    too, and the commands.
"""

from ml_collections import ConfigDict

from ppseg_jax.errors import UserError


def get_config(data: str = "streets") -> ConfigDict:
  """The attacks on `streets`, `camvid` or `cityscapes`."""
  config = ConfigDict()
  config.seed = 0
  config.images = 3  # of the split val, evenly spread
  config.others = 64  # of the split train, for attacks that learn
  config.block = 16
  config.panels = 2

  config.attacks = ("brute_force", "known_plaintext", "correlation", "jigsaw",
                    "features", "mosaic", "rank", "chroma", "likeliest",
                    "unet", "inversion", "unmix", "layout", "label_map",
                    "views", "key_reuse", "containment")
  # kiya2022 and sueyoshi2025 are the cipher of independent.
  config.schemes = ("independent", "image_pixel", "image_channel",
                    "image_cells4", "image_half", "aso2024", "horio2024",
                    "hao2025_mix", "le", "ele", "pe", "etc", "blockwise",
                    "blockwise_pixel", "blockwise_value", "blockwise_q16",
                    "blockwise_q4", "blockwise_q4b5", "blockwise_q1",
                    "blockwise_m2q4", "blockwise_negative", "blockwise_bands2",
                    "blockwise_hidden", "scramble", "scramble_image")

  config.budget = ConfigDict()
  config.budget.steps = 150  # of training a network
  config.budget.unet_steps = 1000  # of training the U-Net, at most
  config.budget.rounds = 8  # of a local search
  config.budget.tries = 64  # keys that brute force tries

  config.views = ConfigDict()  # for attacks on several ciphertexts
  config.views.count = 4  # of a scene, the picture itself and windows of it
  config.views.known = False  # tell where the windows lie
  config.views.forms = 22  # scaled and cut, of a picture under one key

  config.private = ConfigDict()  # noise in all images, as in training
  config.private.pixels = 0
  config.private.epsilon = 0.0
  config.private.rho = 0.0
  config.private.groups = 1
  config.private.bits = 0

  config.recognition = ConfigDict()
  config.recognition.workdir = ""  # of a model trained on plain images

  config.data = ConfigDict()
  config.data.name = data
  config.data.dir = ""
  config.data.tfds_image = ""  # of data.name=tfds:...; '': found by its type
  config.data.tfds_label = ""
  config.data.val_share = 0.0  # of train, held out; of data.name=folder
  config.data.height = 352
  config.data.width = 480
  config.data.train_images = 512  # of streets
  config.data.val_images = 64
  config.data.cache = False
  config.data.leave_out = ""

  if data not in ("streets", "camvid", "cityscapes"):
    raise UserError(
        f"'{data}' is none of streets, camvid, cityscapes; write"
        " --config=configs/attacks.py:camvid, for example."
    )
  if data == "cityscapes":
    config.data.height, config.data.width = 512, 1024
  return config
