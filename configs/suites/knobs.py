"""The comparison, and what the knobs of our schemes cost or bring.

python -m ppseg_jax.experiments --suite=configs/suites/knobs.py:camvid \
    --data-dir=/data/camvid --workdir=W
    The runs of `paper.py`, which may lie in the same folder already, and some
    more: block sizes, cells inside a patch, units, negative-positive, twice as
    many steps. Some 20 minutes a seed on 2 cores for those; the figures are in
    docs/results.md.
"""

import dataclasses

from ppseg_jax.configs import setr_enc
from ppseg_jax.configs.suites import paper
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import Run


def get_suite(scale: str = "demo") -> list[Run]:
  """`paper.py`'s suite at that scale, `demo` or `camvid`, and the knobs."""
  if scale not in ("demo", "camvid"):
    raise UserError(
        f"'{scale}' is none of demo, camvid; write"
        " --suite=configs/suites/knobs.py:camvid, for example."
    )
  runs = {run.name: run for run in paper.get_suite(scale)}
  ours = runs["blockwise"]
  data = ours.config.split(":")[1]
  once = ours.fields.get("steps", setr_enc.get_config(data).steps)

  def run(name, title, like="blockwise", **more):
    """The run called `like`, otherwise named, with more fields set."""
    like = runs[like]
    return dataclasses.replace(
        like, name=name, rows=(dataclasses.replace(like.rows[0], name=title),),
        fields=like.fields | {k.replace("__", "."): v for k, v in more.items()},
    )

  return [
      *runs.values(),
      run("plain_16", "plain SETR, patch 16", "plain", block=16),
      run("plain_stem_16", "plain SETR with the stem of ours, patch 16",
          "plain_stem", block=16),
      run("blockwise_16", "blockwise, block 16 (ours)", block=16),
      run("blockwise_16_of_8", "blockwise, block 8 in patches of 16 (ours)",
          model__patch=16),
      run("blockwise_8_of_4", "blockwise, block 4 in patches of 8 (ours)",
          block=4, model__patch=8),
      run("blockwise_pixel", "blockwise_pixel, canonical form (ours)",
          scheme="blockwise_pixel"),
      run("blockwise_negative", "blockwise_negative, canonical form (ours)",
          scheme="blockwise_negative"),
      run("plain_long", "plain SETR, twice the steps", "plain",
          steps=2 * once),
      run("blockwise_long", "blockwise, twice the steps (ours)",
          steps=2 * once),
      run("blockwise_hidden_long",
          "blockwise, layout hidden, twice the steps (ours)",
          "blockwise_hidden", steps=2 * once),
  ]
