"""What the tests of suites share."""

import numpy as np

from ppseg_jax import metrics, viz
from ppseg_jax.data.labels import CITYSCAPES
from ppseg_jax.runs import workdir
from tests.helpers import photo

TINY = {
    "steps": 2, "batch_size": 4, "log_every": 1, "checkpoint_every": 2,
    "eval.every": 2, "data.height": 32, "data.width": 48,
    "data.train_images": 8, "data.val_images": 4, "panels": 1,
}
SUITE = f"""
from ppseg_jax.experiments import Row, Run

def get_suite(argument="plain"):
  fields = {TINY!r}
  return [
      Run("plain", "configs/setr_plain.py", (
          Row("plain", "the images"),
          Row("plain | on_blockwise", "nothing", {{"scheme": "blockwise"}}),
          Row("adapted", "a key", {{"scheme": "independent",
              "key_plan": "shared", "adapt": True}}),
      ), fields, seeds=(0, 1)),
      Run("ours", "configs/setr_enc.py", (Row("ours", "nothing"),), fields,
          seeds=(0, 1)),
      Run("tuned", "configs/setr_paper.py", (Row("tuned", "a key"),), fields,
          seeds=(0, 1), after="plain"),
  ]
"""


def record_of(seed, key):
  """A record like those of `train`, with random counts."""
  rng = np.random.default_rng(seed)
  matrix = rng.integers(0, 100, (19, 19))
  matrix[5], matrix[:, 5] = 0, 0  # a class that does not occur
  return {
      **metrics.summarise(matrix, CITYSCAPES.names), "images": 4,
      **metrics.spread(rng.integers(1, 9, (4, 2, 19)).cumsum(1)),
      "pixels": int(matrix.sum()), "confusion": matrix.tolist(),
      "protocol": {"checkpoint_sha256": key, "scheme": "s", "key_plan": "p"},
      "versions": {"jax": "0"},
  }


class Main:
  """Does in place of `ppseg_jax.main` what it leaves behind."""

  def __init__(self, jobs, failing=()):
    self.by_folder = {str(job.folder): job for job in jobs}
    self.failing, self.calls = failing, []

  def __call__(self, command, log):
    flags = dict(word[2:].split("=", 1) for word in command)
    job = self.by_folder[flags["workdir"]]
    self.calls.append((job.name, flags.get("mode", "train")))
    job.folder.mkdir(parents=True, exist_ok=True)
    log.write_text(f"step 1\nerror: {job.name} broke\n")
    if job.name in self.failing:
      return 1
    row = None
    if "mode" in flags:
      row = next(r for r in job.run.rows if job.command(r) == command)
    workdir.write_json(job.folder / "config.json", job.config().to_dict())
    workdir.write_json(
        job.files(row)[0], record_of(len(self.calls), job.name)
        | {"config": job.config(row).to_dict()},
    )
    (job.folder / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 3.0}\n{"step": 2, "miou": 0.1}\n{"st'
    )
    picture = photo(32, 48, job.seed)
    viz.save_png(
        job.files(row)[1] / "0000.png",
        viz.panel(dict.fromkeys("abcd", picture)),
    )
    return 0
