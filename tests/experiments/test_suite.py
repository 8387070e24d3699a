"""Which runs and tests a suite is made of."""

import dataclasses
import subprocess
from pathlib import Path

import pytest

from ppseg_jax.config import resolve
from ppseg_jax.configs import setr_pretrained
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import Row, Run, runner, suite
from tests.experiments.helpers import TINY
from tests.helpers import ROOT


def test_two_rows_that_write_the_same_record_are_refused(runs, tmp_path):
  rows = (Row("one", "-", {"windows": 2}), Row("two", "-", {"windows": 3}))
  run = Run("plain", "configs/setr_plain.py", rows, TINY)
  with pytest.raises(UserError, match="let their tests differ"):
    suite.jobs([run], tmp_path)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_parts_cover_every_job_once_and_keep_chains_together(
    runs, count, tmp_path
):
  jobs = suite.jobs(runs, tmp_path, seeds=(0, 1, 2))
  parts = [suite.part(jobs, i, count) for i in range(1, count + 1)]
  names = [job.name for part in parts for job in part]
  assert sorted(names) == sorted(job.name for job in jobs)
  for part in parts:
    inside = [job.name for job in part]
    for job in part:
      if job.run.after:
        before = inside.index(f"{job.run.after}-{job.seed}")
        assert before < inside.index(job.name)
  assert max(map(len, parts)) < len(jobs) or count == 1


def test_only_takes_a_run_a_seed_of_it_or_a_row(runs, tmp_path):
  jobs = suite.jobs(runs, tmp_path)

  def names(*only):
    chosen, rows = runner.select(jobs, list(only))
    return [job.name for job in chosen], rows

  assert names("ours") == (["ours-0", "ours-1"], {"ours"})
  assert names("plain-1")[0] == ["plain-1"]
  assert names("plain | on_blockwise") == (
      ["plain-0", "plain-1"], {"plain | on_blockwise"}
  )
  with pytest.raises(UserError, match="'nosuch'.*plain, ours, tuned"):
    names("nosuch")


@pytest.mark.parametrize("fields, part", [
    ({"nosuch": 1}, "nosuch"), ({"model.nosuch": 1}, "model.nosuch"),
    ({"steps": 0}, "plain-0: steps=0"),
])
def test_a_wrong_field_of_a_suite_is_named(fields, part, tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  run = Run("plain", "configs/setr_plain.py", (Row("plain", ""),), fields)
  with pytest.raises(UserError, match=part):
    suite.jobs([run], tmp_path)[0].config()


@pytest.mark.parametrize("scale", ["demo", "camvid", "cityscapes"])
def test_every_config_of_the_paper_suite_can_work(scale, tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  runs = suite.load(f"configs/suites/paper.py:{scale}")
  for job in suite.jobs(runs, tmp_path):
    for row in (None, *job.run.rows):
      job.config(row)  # raises where it cannot
    records = [job.files(row)[0] for row in job.run.rows]
    assert len(set(records)) == len(records)
  # A model for each way of keys, and every shared key tested without it.
  names = {row.name for run in runs for row in run.rows}
  assert names >= {
      "plain SETR", "plain SETR, tested on encrypted images", "kiya2022",
      "sueyoshi2025", "independent, a key an image",
      "independent, trained at home under fresh keys",
      "blockwise, canonical form (ours)",
      "blockwise_value, canonical form (ours)",
      "blockwise, layout hidden (ours)",
  }
  for run in runs:
    if run.fields.get("key_plan") == "shared":
      assert any(row.test == {"key_plan": "image"} for row in run.rows)


@pytest.mark.parametrize("scale", ["demo", "camvid"])
def test_the_suite_of_levels_tests_one_model_at_each_it_was_trained_for(
    scale, tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  runs = suite.load(f"configs/suites/levels.py:{scale}")
  one, *alone = suite.jobs([dataclasses.replace(x, seeds=(0,)) for x in runs],
                           tmp_path)
  tested = {job.config(row).eval.scheme for job in alone
            for row in job.run.rows}
  assert tested < {one.config(row).eval.scheme for row in one.run.rows}
  assert len(one.run.rows) == len(set(one.config().levels))


@pytest.mark.parametrize("scale", ["demo", "camvid"])
def test_the_suite_of_noise_names_the_noise_of_every_budget(
    scale, tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  jobs = suite.jobs(suite.load(f"configs/suites/noise.py:{scale}"), tmp_path)
  assert len({job.name for job in jobs}) == len(jobs) > 9
  for job in jobs:
    config = job.config(job.run.rows[0])
    assert config.private.pixels
    # A sum's noise, of all channels, over the block's pixels.
    if config.private.epsilon == 1 and not config.private.bits:
      expected = 2**0.5 * 255 * 3 * config.private.pixels / config.block**2
      assert f"noise of {expected:.0f} of 255" in job.run.rows[0].name


@pytest.mark.parametrize("name", [
    "paper.py:camvid_full", "paper.py:camvid_pretrained",
    "paper.py:camvid_pretrained_gpu", "paper.py:idd_pretrained_gpu",
    "medical.py", "faces.py:gpu",
])
def test_every_config_of_a_suite_of_full_frames_can_work(
    name, tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  runs = suite.load(f"configs/suites/{name}")
  for job in suite.jobs(runs, tmp_path):
    config = job.config()
    assert config.batch_size == (32 if name.endswith("gpu") else 8)
    for row in job.run.rows:
      job.config(row)
    # What is not named is trained alike: at home, augmented as plain images.
    cloud = "cloud" in job.name or job.run.name in (
        "independent", "sueyoshi2025", "horio2024"
    )
    assert config.setting == ("cloud" if cloud else "home")
    assert (config.data.scale_max > 1) == (not cloud)
    crop = (config.data.crop_height, config.data.crop_width)
    if "camvid" in name:
      divides = job.run.name in ("plain_192", "levels_16_of_8")
      assert crop == ((192, 256) if divides else (176, 240))
      assert config.data.height == 352
    started = bool(config.start.workdir)
    pretrained = "full" not in name and not started
    assert bool(config.model.pretrained) == pretrained
    assert started == bool(job.run.after)
    # Who goes on from a plain model has one; whatever it is tested on.
    ours = job.run.name.startswith(("rank", "levels", "taught", "features"))
    for row in job.run.rows:
      assert not ours or ("plain model as well" in row.shares) == started
  rows = {row.name for run in runs for row in run.rows}
  assert ("horio2024" in rows) == ("camvid" not in name)
  deciding = {run.name for run in runs if run.seeds == (0, 1, 2)}
  assert deciding >= {"plain", "blockwise", "independent_epoch", "taught"}


@pytest.mark.parametrize("name", ["medical.py:tpu", "faces.py:tpu"])
def test_a_suite_for_another_machine_is_refused(name, monkeypatch):
  monkeypatch.chdir(ROOT)
  with pytest.raises(UserError, match=f"neither cpu nor gpu.*{name[:-4]}:gpu"):
    suite.load(f"configs/suites/{name}")


@pytest.mark.parametrize("name", [
    "paper.py:camvid_full", "paper.py:camvid_pretrained", "medical.py",
])
def test_a_run_of_a_suite_has_the_grid_of_the_run_that_it_starts_from(
    name, tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  jobs = suite.jobs(
      suite.load(f"configs/suites/{name}"), tmp_path, seeds=(0,)
  )
  configs = {job.folder: job.config() for job in jobs}

  def grid(config):
    data, patch = config.data, config.model.patch
    return data.crop_height // patch, data.crop_width // patch

  started = [x for x in configs.values() if x.start.workdir]
  assert len(started) > 2
  for config in started:
    assert grid(config) == grid(configs[Path(config.start.workdir)])


def test_the_config_of_pretrained_weights_is_a_run_of_the_comparison(
    tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  jobs = {job.name: job for job in suite.jobs(
      suite.load("configs/suites/paper.py:camvid_pretrained"), tmp_path
  )}
  ours = setr_pretrained.get_config("camvid")
  plain = ours.copy_and_resolve_references()
  # Where nothing is encrypted the block is no more than the patch.
  plain.update_from_flattened_dict(
      {"scheme": "plain", "model.form": "plain", "model.embed": "dense",
       "block": 16}
  )
  for name, config in (("rank_16_of_8-0", ours), ("plain-0", plain)):
    expected = resolve(config).to_dict()
    assert jobs[name].config().to_dict() == expected


@pytest.mark.parametrize("name", ["knobs", "refined"])
@pytest.mark.parametrize("scale", ["demo", "camvid"])
def test_suites_that_go_on_from_the_papers_can_share_its_folder(
    name, scale, tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  paper = suite.jobs(suite.load(f"configs/suites/paper.py:{scale}"), tmp_path)
  more = suite.jobs(suite.load(f"configs/suites/{name}.py:{scale}"), tmp_path)
  commands = {job.name: job.command() for job in more}
  assert {job.name: job.command() for job in paper}.items() <= commands.items()
  for job in more:
    for row in (None, *job.run.rows):
      job.config(row)


@pytest.mark.parametrize("array, code, said", [
    ({"ID": "2", "MIN": "1", "MAX": "8"}, 0,
     "--ntasks=1 python -m ppseg_jax.experiments --part=2/8 --suite=s.py:a b"),
    ({"ID": "0", "MIN": "0", "MAX": "7"}, 2, "it must begin at 1"),
    ({}, 2, "not an array job"),
])
def test_an_array_job_runs_its_part_of_the_suite(array, code, said, tmp_path):
  srun = tmp_path / "srun"
  srun.write_text('#!/bin/bash\necho "$@"\n')
  srun.chmod(0o755)
  done = subprocess.run(
      ["bash", ROOT / "launch" / "slurm_suite.sh", "--suite=s.py:a b"],
      capture_output=True, text=True,
      env={"PATH": f"{tmp_path}:/usr/bin:/bin"} | {
          f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()
      },
  )
  assert done.returncode == code
  assert said in done.stdout + done.stderr
