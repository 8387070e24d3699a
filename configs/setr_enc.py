"""SETR trained and run on images encrypted each under its own key.

python -m ppseg_jax.main --config=configs/setr_enc.py
    Street scenes drawn on the fly: some 4 minutes on 2 cores, mIoU 0.295.
python -m ppseg_jax.main --config=configs/setr_enc.py:camvid \
    --config.data.dir=/data/camvid
    Real street scenes: 2 minutes on 2 idle cores, mIoU 0.435 (0.005 over
    three seeds).
python -m ppseg_jax.main --config=configs/setr_enc.py:idd_lite \
    --config.data.dir=/data/idd_lite
    The same on streets of India; `:kvasir_seg` on polyps and `:fasseg_faces` on
    faces, both at 128x128.
python -m ppseg_jax.main --config=configs/setr_enc.py:cityscapes \
    --config.data.dir=/data/cityscapes
    The paper's experiment in size: SETR-Naive-L, crops of 768x768, 80,000 steps
    (40,000 is its short schedule). Where a batch of 8 does not fit in memory,
    --config.accumulate=2 and so on. `:cityscapes_adamw` is the same with AdamW
    and a rate that falls from layer to layer.

A cloud trains: every image is encrypted once, whole, under a key of its own,
and only ciphertexts are augmented. `setr_home.py` is for training at home.
"""

from ml_collections import ConfigDict

from ppseg_jax.errors import UserError

_DATA = (
    "streets", "camvid", "idd_lite", "kvasir_seg", "fasseg_faces", "cityscapes",
    "cityscapes_adamw",
)


def get_config(data: str = "streets") -> ConfigDict:
  """The experiment on one of `_DATA`."""
  config = ConfigDict()
  config.seed = 0
  config.steps = 400
  config.batch_size = 16  # of all devices together
  config.accumulate = 1  # parts that a batch is worked through in
  config.log_every = 10
  config.checkpoint_every = 50
  config.panels = 8  # sample panels of the held-out split

  config.scheme = "blockwise"
  config.block = 8
  config.levels = ()  # of what is shown, one drawn for each image: "", "q4"
  config.setting = "cloud"  # trains on what was encrypted once; or home
  config.key_plan = ""  # image, shared or client; epoch at home; '': as usual
  config.clients = 8  # clients a split, for key_plan=client

  config.private = ConfigDict()  # noise in each image, see docs/levels.md
  config.private.pixels = 0  # in which neighbours differ; 0: no noise
  config.private.epsilon = 0.0  # of an image; or rho
  config.private.rho = 0.0
  config.private.groups = 1  # of the sorted values of a channel of a block
  config.private.bits = 0  # of a histogram in their place; 0: none

  config.start = ConfigDict()
  config.start.workdir = ""  # a trained run to start from; '': from nothing
  config.start.fresh = ""  # parameters not taken from it, as encoder/embed
  config.start.adapt = False  # its embedding by the shared key; or pretrained's

  config.model = ConfigDict()
  config.model.size = "demo"
  config.model.patch = 0  # 0: the block
  config.model.embed = "dense"  # or rank, adaptnet, see models/embed.py
  config.model.form = ""  # of blocks that it reads: plain; '': the scheme's
  config.model.reader = 0  # hidden width beside the linear layer; 0: none
  config.model.spread = False  # tell it how fine the form is, see embed.py
  config.model.decoder = "naive"
  config.model.aux = False  # auxiliary heads, trained along
  config.model.aux_weight = 0.4  # of the loss of each
  config.model.norm = "batch"  # of the decoder; or group
  config.model.pos_embed = "learned"  # or none
  config.model.pos_region = (1, 1)  # patches that share one; 0: all in a row
  config.model.stem = 2  # 3x3 convolutions over the embedded patches
  config.model.class_token = False
  config.model.drop_path = 0.0  # of the last block
  config.model.dropout = 0.0
  config.model.pretrained = ""  # a weight file to start from
  config.model.pretrained_missing = ""  # what it may lack: head,embed
  config.model.pretrained_pixels = ""  # half or imagenet; '': as is usual
  config.model.dtype = "float32"
  config.model.remat = False

  config.loss = ConfigDict()
  config.loss.objective = "segmentation"  # or features, taught
  config.loss.teacher = ""  # a run on plain images, for features and taught
  config.loss.teacher_layers = (0,)  # whose features are wanted; 0: patches'
  config.loss.teacher_weight = 1.0  # of its prediction beside the labels
  config.loss.class_weights = ()  # one a class, or median_frequency; (): 1 each
  config.loss.smoothing = 0.0
  config.loss.ohem = 0.0  # probability below which pixels count; 0: all count
  config.loss.ohem_kept = 100_000  # pixels of an image that count at least

  config.optim = ConfigDict()
  config.optim.name = "adamw"
  config.optim.lr = 1e-3
  config.optim.min_lr = 0.0  # at the last step
  config.optim.schedule = "cosine"
  config.optim.power = 0.9  # of schedule poly
  config.optim.warmup = 50
  config.optim.weight_decay = 0.05
  config.optim.b2 = 0.98
  config.optim.momentum = 0.9  # of sgd
  config.optim.clip = 1.0  # global norm; 0 for none
  config.optim.head_lr = 1.0  # times lr, for the decoder
  config.optim.layer_decay = 1.0  # of lr, from a layer to the one below
  config.optim.embed_lr = 0.0  # times lr, for embed and stem; 0: by the above
  config.optim.only = ""  # parameters that are trained, as embed,stem; '': all
  config.optim.ema = 0.0  # decay of the averaged weights; 0: none

  config.data = ConfigDict()
  config.data.name = data.removesuffix("_adamw")
  config.data.dir = ""  # of data.name=encrypted those of clients, A,B,C
  config.data.more = ""  # without labels: camvid=/data/camvid,streets
  config.data.tfds_image = ""  # of data.name=tfds:...; '': found by its type
  config.data.tfds_label = ""
  config.data.val_share = 0.0  # of train, held out; of folder, encrypted
  config.data.resize = "exact"  # shorter (keeps the shape) or none
  config.data.height = 96
  config.data.width = 192
  config.data.crop_height = 0  # 0: the whole image
  config.data.crop_width = 0
  config.data.train_images = 512  # of streets
  config.data.val_images = 64
  config.data.scale_min = 1.0
  config.data.scale_max = 1.0
  config.data.flip = True
  config.data.photometric = 0.0
  config.data.cache = True
  config.data.leave_out = ""  # part of train not to train on, as 1/5

  config.eval = ConfigDict()
  config.eval.every = 200
  config.eval.images = 0  # 0: all
  config.eval.scheme = ""  # '': as trained
  config.eval.key_plan = ""  # '': as trained
  config.eval.adapt = False  # transform a plain model by the shared key
  config.eval.split = "val"  # or left_out, what data.leave_out names
  config.eval.whole = False  # whole images, where they fit in memory
  config.eval.stride = 0  # else of windows of the crop's size; 0: no overlap
  config.eval.windows = 1  # of an image, at once
  config.eval.boundary = True  # count boundary IoU as well
  config.eval.at = "input"  # or original, the labels' own size
  config.eval.data_name = ""  # another data set to test on; '': data.name
  config.eval.data_dir = ""
  config.eval.map = ""  # class=class,... of the two; '': the known table

  config.predict = ConfigDict()
  config.predict.dir = ""
  config.predict.scheme = ""  # '': the images come encrypted
  config.predict.ids = "train"  # of *_ids.png: train ids, or raw as labels have

  config.refine = ConfigDict()  # by the client, --mode=refine
  config.refine.steps = 100  # more, and it learns the colours by heart
  config.refine.lr = 2e-3
  config.refine.width = 48
  config.refine.layers = 4
  config.refine.factor = 2  # pixels folded into channels
  config.refine.radii = (4, 8)  # of the guided filter, the best is taken
  config.refine.eps = (1e-4, 1e-3, 1e-2)
  config.refine.filter_images = 64  # of train, to choose by

  config.mesh = ConfigDict()
  config.mesh.data = -1
  config.mesh.fsdp = 1
  config.mesh.model = 1

  match data:
    case "streets":
      pass
    case "camvid" | "idd_lite" | "kvasir_seg" | "fasseg_faces":
      config.steps = 500
      square = data in ("kvasir_seg", "fasseg_faces")
      config.data.height = 128 if square else 96
      config.data.width = 128
      config.eval.every = 250
    case "cityscapes":
      _cityscapes(config)
    case "cityscapes_adamw":
      _cityscapes(config)
      _adamw(config)
    case _:
      raise UserError(
          f"'{data}' is none of {', '.join(_DATA)};"
          " write --config=configs/setr_enc.py:camvid, for example."
      )
  return config


def at_home(config: ConfigDict) -> ConfigDict:
  """The same, trained by the images' owner: any augmentation, fresh keys."""
  config.setting = "home"
  if config.data.name == "cityscapes":
    config.data.scale_min = 0.5
    config.data.scale_max = 2.0
    config.data.photometric = 0.5
  return config


def _cityscapes(config: ConfigDict) -> None:
  """Recipe of Zheng et al., CVPR 2021, section 4.1, for Cityscapes."""
  config.steps = 80_000
  config.batch_size = 8
  config.log_every = 50
  config.checkpoint_every = 1000
  config.block = 16
  config.model.size = "large"
  config.model.stem = 0  # the published model
  config.model.aux = True
  config.model.dtype = "bfloat16"
  config.model.remat = True
  config.optim.name = "sgd"
  config.optim.lr = 0.01
  config.optim.min_lr = 1e-4  # of the authors' code
  config.optim.schedule = "poly"
  config.optim.warmup = 0
  config.optim.weight_decay = 0.0
  config.optim.clip = 0.0
  config.optim.head_lr = 10.0
  config.data.height = 1024
  config.data.width = 2048
  config.data.crop_height = 768
  config.data.crop_width = 768
  config.data.cache = False
  config.eval.every = 8000
  config.eval.stride = 512


def _adamw(config: ConfigDict) -> None:
  """As pretrained ViTs are commonly fine-tuned for segmentation today.

  Rates, decay and warm-up are of the size that mmsegmentation has for BEiT and
  Swin; not tuned here.
  """
  config.optim.name = "adamw"
  config.optim.lr = 6e-5
  config.optim.min_lr = 0.0
  config.optim.power = 1.0
  config.optim.warmup = 1500
  config.optim.weight_decay = 0.05
  config.optim.b2 = 0.999
  config.optim.clip = 1.0
  config.optim.head_lr = 1.0
  config.optim.layer_decay = 0.9
  config.optim.ema = 0.999
  config.model.drop_path = 0.1
