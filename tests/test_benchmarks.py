"""What the benchmarks compute, and that those for a GPU work without one."""

import json
import os
import subprocess
import sys
from argparse import Namespace

import pytest

from benchmarks import gpu, hlo, scaling
from tests.helpers import ROOT

MODULE = """
%add (a: bf16[], b: bf16[]) -> bf16[] {
  ROOT %sum = bf16[] add(%a, %b)
}

%body (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %x = f32[8]{0} get-tuple-element(%state), index=1
  %all-reduce.1 = f32[8]{0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %next = (s32[], f32[8]) tuple(%i, %all-reduce.1)
}

%condition (state: (s32[], f32[8])) -> pred[] {
  %end = s32[] constant(5)
  ROOT %less = pred[] compare(%i, %end), direction=LT
}

ENTRY %main (p: bf16[4,6]) -> bf16[2,6] {
  %while.1 = (s32[], f32[8]) while(%start), condition=%condition, body=%body
  %all-gather.1 = bf16[8,6]{1,0} all-gather(%p), channel_id=2, replica_groups=[2,2]<=[2,2]T(1,0), dimensions={0}
  %all-reduce.2 = bf16[4,6]{1,0} all-reduce(%p), channel_id=3, replica_groups=[1,4]<=[4], to_apply=%add
  %part = bf16[2,6]{1,0} dynamic-slice(%all-reduce.2, %at, %zero), dynamic_slice_sizes={2,6}
  %all-reduce.3 = bf16[4,6]{1,0} all-reduce(%p), channel_id=4, replica_groups=[1,4]<=[4], to_apply=%add
  ROOT %out = bf16[2,6] add(%all-reduce.3, %part)
}
"""  # noqa: E501


def test_collectives_are_counted_by_kind_devices_and_turns_of_a_loop():
  assert sorted(hlo.collectives(MODULE)) == [
      ("all-gather", (0, 2), 8 * 6 * 2, 1),
      ("all-reduce", (0, 1), 5 * 8 * 4, 5),
      ("all-reduce", (0, 1, 2, 3), 4 * 6 * 2, 1),
      ("reduce-scatter", (0, 1, 2, 3), 4 * 6 * 2, 1),
  ]


@pytest.mark.parametrize("text, group", [
    ("replica_groups={{0,4},{1,5}}, x", (0, 4)),
    ("replica_groups=[4,4]<=[8,2]T(1,0), x", (0, 2, 4, 6)),
    ("replica_groups=[8,2]<=[16], x", (0, 1)),
    ("replica_groups=mesh['axis_0'=8,'axis_1'=2] {'axis_0'}, x",
     (0, 2, 4, 6, 8, 10, 12, 14)),
    ("replica_groups=mesh['axis_0'=1,'axis_1'=4,'axis_2'=4],"
     " device_ids=([2,4,2]T(1,0,2)) {'axis_1'}, x", (0, 2, 4, 6)),
    ("source_target_pairs={{0,3},{3,0}}", (0, 3)),
])
def test_groups_of_devices_are_read_in_every_notation(text, group):
  assert hlo.first_group(text) == group


def test_an_unknown_notation_of_groups_is_no_guess():
  with pytest.raises(ValueError, match="unknown notation of groups"):
    hlo.first_group("replica_groups=mesh['a'=4] {'a':(1)2}")


def row(mesh=(8, 1, 1), batch=8, depth=4, flops=1e12, sent=()):
  return {"mesh": list(mesh), "batch": batch, "depth": depth, "flops": flops,
          "parameters": 1e9, "optimizer": 1e9, "temporaries": 1e9,
          "collectives": [
              {"kind": kind, "group": list(group), "bytes": size, "count": 1}
              for kind, group, size in sent
          ]}


def test_figures_of_more_layers_lie_on_the_line_through_two():
  a, b = ("all-reduce", range(8), 4e6), ("all-reduce", range(8), 6e6)
  new = ("all-gather", range(8), 1e6)
  found = scaling.extrapolated(row(sent=[a]), row(depth=6, flops=2e12,
                                                  sent=[b, new]), 24)
  assert found["flops"] == pytest.approx(11e12)
  assert found["parameters"] == 1e9 and found["depth"] == 24
  assert [c["bytes"] for c in found["collectives"]] == pytest.approx(
      [24e6, 10e6])


def test_a_longer_data_axis_changes_who_takes_part_and_nothing_else():
  sent = [("all-gather", range(2), 1.0), ("all-reduce", (0, 2, 4, 6), 2.0),
          ("all-reduce", range(8), 3.0)]
  found = scaling.stretched(row((4, 2, 1), sent=sent), ((2, 2, 1), 4))
  assert [c["group"] for c in found["collectives"]] == [
      [0, 1], [0, 2], [0, 1, 2, 3]]
  back = scaling.stretched(found, ((4, 2, 1), 8))
  assert back == row((4, 2, 1), sent=sent)


CHIP = scaling.Chip(1e12, 100e9, 10e9, 8, 80e9)


@pytest.mark.parametrize("kind, group, seconds", [
    ("all-reduce", range(8), 2 * 7 / 8 * 0.1),  # in a node
    ("all-gather", range(8), 7 / 8 * 0.1),
    ("all-gather", range(0, 64, 8), 7 / 8 * 1.0),  # one of each of 8 nodes
    ("reduce-scatter", range(16), 15 / 16 * 10 / 80),  # 8 of each of 2
    ("collective-permute", (0, 1), 0.1),
])
def test_a_ring_takes_as_long_as_its_slowest_link(kind, group, seconds):
  found = scaling.sending(row(sent=[(kind, group, 10e9)]), CHIP)
  assert found == pytest.approx(seconds)


def test_efficiency_is_that_of_one_device_between_its_two_bounds():
  assert scaling.efficiency(row(), 1e12, CHIP, 0.5) == (1, 1)
  sent = [("all-gather", range(8), 10e9 * 8 / 7)]  # 0.1 s beside 2 s
  none, full = scaling.efficiency(row(sent=sent), 1e12, CHIP, 0.5)
  assert none == pytest.approx(2 / 2.1) and full == 1
  wasteful = row(flops=2e12)
  assert scaling.efficiency(wasteful, 1e12, CHIP, 0.5) == (0.5, 0.5)


def test_the_best_mesh_of_a_number_of_devices_is_bold_if_it_fits():
  slow = row((1, 8, 1), sent=[("all-gather", range(8), 10e9)])
  fast, large = row(), row((4, 1, 2))
  large["temporaries"] = 99e9
  slow["flops"] = large["flops"] = 1.1e12
  _, _, *lines = scaling.table([slow, large, fast], 1e12, {"X": CHIP}, 0.5)
  assert [line.count("**") for line in lines] == [0, 0, 2]
  assert lines[0].startswith("| 8 | 1 x 8 x 1 | 1000 | 1000 | 1000 | 1.1 | 0 |")
  fast["temporaries"] = 99e9
  _, _, *lines = scaling.table([slow, large, fast], 1e12, {"X": CHIP}, 0.5)
  assert [line.count("**") for line in lines] == [2, 0, 0]


STEPS = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_compilation_cache", False)
from benchmarks import scaling

def step(mesh, batch, depth):
  return scaling.compiled((mesh, batch), depth, crop=32)

two = scaling.extrapolated(step((2, 2, 1), 4, 4), step((2, 2, 1), 4, 5), 6)
whole = step((4, 2, 1), 8, 6)
two = scaling.stretched(two, ((4, 2, 1), 8))
for name in ("parameters", "optimizer", "flops"):
  assert abs(two[name] / whole[name] - 1) < 1e-3, name
assert two["parameters"] > 6 * 12 * 1024 * 1024 * 4 / 2

def large(row):
  return {(c["kind"], tuple(c["group"])): (round(c["bytes"]), c["count"])
          for c in row["collectives"] if c["bytes"] > 1e5}

assert large(two) == large(whole), (large(two), large(whole))
kinds = {kind for kind, _ in large(whole)}
assert kinds == {"all-gather", "reduce-scatter", "all-reduce"}, kinds
"""


@pytest.mark.slow
def test_the_compiled_steps_are_what_the_model_of_scaling_takes_them_for():
  done = subprocess.run(
      [sys.executable, "-c", STEPS], cwd=ROOT, text=True, capture_output=True,
      env=dict(os.environ, JAX_PLATFORMS="cpu"),
  )
  assert done.returncode == 0, done.stderr


def run_gpu(*words, **env):
  return subprocess.run(
      [ROOT / "benchmarks" / "gpu.sh", *words], text=True, capture_output=True,
      env=dict(os.environ, **env),
  )


def test_a_piece_for_a_gpu_works_on_a_cpu_at_a_small_size(tmp_path):
  assert gpu.main([str(tmp_path), "encryption", "--small"]) == 0
  found = json.loads((tmp_path / "encryption.json").read_text())
  assert found["small"] and found["schemes"].keys() == {"plain", "blockwise"}
  assert all(x["of_copy_rate"] > 0 for x in found["schemes"].values())


def test_pieces_whose_input_is_missing_say_why_they_are_skipped(monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  args = Namespace(small=True, camvid=None, out="")
  assert "torch" in gpu.pytorch(args)["skipped"] or (
      "timm" in gpu.pytorch(args)["skipped"])
  assert "--camvid" in gpu.camvid(args)["skipped"]


def test_the_script_for_a_gpu_runs_what_is_missing_and_knows_its_words(
    tmp_path
):
  for words, part in (
      ((), "folder to write to is missing"), ((tmp_path, "all"), "no piece"),
      ((tmp_path, "--quick"), "no flag"),
  ):
    done = run_gpu(*words)
    assert done.returncode == 2 and part in done.stderr
  listed = run_gpu().stderr
  assert all(name in listed for name in gpu.PIECES)

  out = tmp_path / "out"
  out.mkdir()
  for name in gpu.PIECES:
    (out / f"{name}.json").write_text("{}")
  done = run_gpu(out)
  assert done.returncode == 0 and done.stderr == ""
  assert done.stdout.count(": is in ") == len(gpu.PIECES)

  # A python that fails in one piece: the others are run.
  python = tmp_path / "bin" / "python3"
  python.parent.mkdir()
  python.write_text('#!/bin/bash\necho "$PYTHONPATH $*"; [[ "$4" != memory ]]')
  python.chmod(0o755)
  (out / "memory.json").unlink()
  (out / "camvid.json").unlink()
  done = run_gpu(out, "--camvid=/data/camvid",
                 PATH=f"{python.parent}:{os.environ['PATH']}")
  assert done.returncode == 1
  assert "memory: failed (exit code 1" in done.stderr
  assert f"{ROOT}" in done.stdout
  for name in ("memory", "camvid"):
    assert f"benchmarks.gpu {out} {name} --camvid=/data/camvid" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("piece", gpu.PIECES)
def test_every_piece_for_a_gpu_works_on_a_cpu_at_a_small_size(
    piece, mini, tmp_path, monkeypatch
):
  given = []
  if piece == "camvid":
    from tests.helpers import write_camvid

    given = [f"--camvid={write_camvid(tmp_path / 'data')}"]
  assert gpu.main([str(tmp_path), piece, "--small", *given]) == 0
  found = json.loads((tmp_path / f"{piece}.json").read_text())
  assert found["small"] and found["seconds"] > 0 and not found.get("wrong")
