"""The comparison: method by method, who must share what, what accuracy remains.

python -m ppseg_jax.experiments --suite=configs/suites/paper.py --workdir=W
    Drawn street scenes; some minutes a run on 2 cores, one seed.
python -m ppseg_jax.experiments --suite=configs/suites/paper.py:camvid \
    --data-dir=../shared/data/camvid --workdir=W
    Real street scenes at 96x128, 1,000 steps, three seeds; hours on 2 cores.
python -m ppseg_jax.experiments --suite=configs/suites/paper.py:cityscapes \
    --data-dir=/data/cityscapes --workdir=W
    SETR-L at 768x768, 80,000 steps: a node of GPUs.
"""

from ppseg_jax.encryption import SCHEMES
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import Row, Run
from ppseg_jax.layout import hide_layout

_NOTHING = "nothing"
_ALL = "one secret key: all clients with each other and the model creator"
_ALL_CLOUD = _ALL + ", who gives the cloud a model made with it"
_TRAINED_SHARED = "training: one key; the clients then share nothing"


def get_suite(scale: str = "demo") -> list[Run]:
  """The comparison at `demo`, `camvid` or `cityscapes` scale."""
  match scale:
    case "demo":
      data, seeds = "streets", (0,)
      fields = {"steps": 200, "eval.every": 100}
    case "camvid":
      data, seeds = "camvid", (0, 1, 2)
      fields = {"steps": 1000, "eval.every": 250}
    case "cityscapes":
      data, seeds, fields = "cityscapes", (0,), {}
    case _:
      raise UserError(
          f"'{scale}' is none of demo, camvid, cityscapes; write"
          " --suite=configs/suites/paper.py:camvid, for example."
      )

  patch = 16 if scale == "cityscapes" else 8

  def run(name, config, rows, after="", **more):
    return Run(
        name=name, config=f"configs/{config}.py:{data}", rows=rows,
        fields=fields | {k.replace("__", "."): v for k, v in more.items()},
        seeds=seeds, after=after,
    )

  def shared(name, scheme, **more):
    """A model trained on images under one key, tested with it and without."""
    return run(
        name, "setr_paper", (
            Row(name, _ALL),
            Row(f"{name}, tested with independent keys", _TRAINED_SHARED,
                {"key_plan": "image"}),
        ),
        scheme=scheme, key_plan="shared", **more,
    )

  # One permutation of all values of a block, the same for every block: under a
  # key that all images share it is the cipher of these two.
  kiya, sueyoshi = (
      name if name in SCHEMES else "independent"
      for name in ("kiya2022", "sueyoshi2025")
  )
  runs = [
      run("plain", "setr_plain", (
          Row("plain SETR", "the images themselves, with the cloud"),
          Row("plain SETR, tested on encrypted images", _NOTHING,
              {"scheme": "independent"}),
          Row("plain SETR, tested on blockwise", _NOTHING,
              {"scheme": "blockwise"}),
          Row("kiya2022", _ALL_CLOUD,
              {"scheme": kiya, "key_plan": "shared", "adapt": True}),
          Row("kiya2022, tested with independent keys", _TRAINED_SHARED,
              {"scheme": kiya, "key_plan": "image", "adapt": True}),
      )),
      # Their blocks are of 4x4; the model's patches are those of all others.
      shared("le", "le", block=4, model__patch=patch),
      shared("ele", "ele", block=4, model__patch=patch),
      # Plain weights transformed by the key, then fine-tuned: of the plain run,
      # where the paper takes those of ImageNet.
      shared("sueyoshi2025", sueyoshi, after="plain",
             start__workdir="{workdir}/plain-{seed}", start__adapt=True),
      shared("horio2024", "horio2024"),
      run("aso2024", "setr_paper", (Row("aso2024", _NOTHING),),
          scheme="aso2024", key_plan="image"),
      run("independent", "setr_paper", (
          Row("independent, a key an image", _NOTHING),
      ), key_plan="image"),
      run("independent_epoch", "setr_paper", (
          Row("independent, a fresh key an epoch", _NOTHING),
      ), key_plan="epoch"),
      run("blockwise", "setr_enc", (
          Row("blockwise, canonical form (ours)", _NOTHING),
      )),
      run("blockwise_value", "setr_enc", (
          Row("blockwise_value, canonical form (ours)", _NOTHING),
      ), scheme="blockwise_value"),
      # The figures are those of blocks in place: the model cannot tell.
      run("blockwise_hidden", "setr_enc", (
          Row("blockwise, hidden layout (ours)", _NOTHING,
              leaks=hide_layout("blockwise").leaks),
      ), model__pos_embed="none"),
  ]
  return [run for run in runs if run.fields.get("scheme", "plain") in SCHEMES]
