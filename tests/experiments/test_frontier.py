"""Accuracy beside the best attack on each scheme."""

import json

import pytest

from ppseg_jax.errors import UserError
from ppseg_jax.experiments import (
    attacked,
    frontier,
    report,
    runner,
    suite,
)
from ppseg_jax.experiments.attacked import Best
from ppseg_jax.experiments.records import collect
from tests.experiments.helpers import Main
from tests.helpers import ROOT, call

ATTACKED = [{"block": 8} | row for row in [
    {"attack": "floor", "scheme": "", "keys": "", "ssim": 0.3, "edge": 0.1},
    {"attack": "ceiling", "scheme": "", "keys": "", "ssim": 1.0, "edge": 1.0},
    {"attack": "mosaic", "scheme": "blockwise", "keys": "image", "ssim": 0.6,
     "edge": 0.2},
    {"attack": "likeliest", "scheme": "blockwise", "keys": "image",
     "ssim": 0.5, "edge": 0.4},
    {"attack": "known_plaintext", "scheme": "blockwise", "keys": "shared",
     "ssim": 0.9, "edge": 0.9},
    {"attack": "jigsaw", "scheme": "blockwise", "keys": "image", "ssim": None,
     "edge": None},
    {"attack": "correlation", "scheme": "independent", "keys": "image",
     "ssim": 0.9, "edge": 0.8},
]]


def test_the_frontier_takes_the_best_attack_on_each_scheme(runs, tmp_path):
  jobs = suite.jobs(runs, tmp_path / "w")
  runner.run_jobs(jobs, execute=Main(jobs))
  lines = collect(runs, jobs)
  points = {p.line.row.name: p for p in frontier.join(lines, ATTACKED)}
  assert points["ours"].best == {
      "ssim": Best(0.6, "mosaic"), "edge": Best(0.4, "likeliest")
  }
  assert points["tuned"].scheme == "independent"
  assert points["plain"].best["ssim"] == Best(1.0, "none needed")
  cells = frontier.table(list(points.values()), ATTACKED)
  assert all(len(row) == len(cells[0]) for row in cells)
  assert cells[-2][0] == "unrelated images" and cells[-2][-1] == "0.10"
  drawing = frontier.draw(list(points.values()), ATTACKED)
  assert drawing == frontier.draw(list(points.values()), ATTACKED)
  assert "best attack: SSIM" in drawing
  # The names of points, and in its colour that of ours.
  assert all(f"<!-- {name} -->" in drawing for name in points)
  assert "#d9541e" in drawing.split("<!-- ours -->")[1].split("</g>")[0]
  with pytest.raises(UserError, match="'blockwise' was not attacked"):
    frontier.join(lines, ATTACKED[:2] + ATTACKED[-1:])
  with pytest.raises(UserError, match="not attacked with blocks of 8"):
    frontier.join(lines, [row | {"block": 4} for row in ATTACKED])
  with pytest.raises(UserError, match="does not exist"):
    attacked.read_rows([tmp_path / "none.json"])


def test_a_reports_records_make_the_same_frontier_as_the_runs(runs, tmp_path):
  folder = tmp_path / "w"
  jobs = suite.jobs(runs, folder)
  runner.run_jobs(jobs, execute=Main(jobs))
  lines = collect(runs, jobs)
  table = tmp_path / "records.csv"
  table.write_text(report.as_csv(report.numbers(lines)))
  found = tmp_path / "attacks.json"
  found.write_text(json.dumps({"rows": ATTACKED, "config": {
      "block": 8, "images": 3, "others": 9, "data": {}}}))

  def made(*records):
    out = tmp_path / "out"
    given = [word for one in records for word in (
        f"--suite={tmp_path / 'suite.py'}", f"--records={one}")]
    done = call(frontier.main, *given, f"--attacks={found}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    return (out / "frontier.md").read_text().splitlines()

  once = made(folder)
  assert len(once) == 2 + 5 + 2  # the suite's rows, floor and ceiling
  assert made(table) == once
  assert made(folder, table) == once[:7] + once[2:]

  one = f"--suite={tmp_path / 'suite.py'}"
  rest = f"--attacks={found}", f"--out={tmp_path / 'out'}"
  done = call(frontier.main, one, one, f"--records={folder}", *rest)
  assert done.returncode == 2 and "2 --suite and 1 --records" in done.stderr
  for text, said in (("method,run\na,b\n", "cannot be read"),
                     (table.read_text().replace("done", "not run"), "none of")):
    table.write_text(text)
    done = call(frontier.main, one, f"--records={table}", *rest)
    assert done.returncode == 2 and said in done.stderr


def test_attacks_of_several_runs_are_joined_if_they_are_of_the_same_images(
    tmp_path
):
  def write(name, block, images, rows=ATTACKED, **more):
    path = tmp_path / name
    path.write_text(json.dumps({"rows": rows, "config": {
        "block": block, "images": images, "others": 9,
        "data": {"dir": name}, **more}}))
    return path

  old = [{k: v for k, v in row.items() if k != "block"} for row in ATTACKED]
  one, two = write("one", 8, 3), write("two", 4, 3, old)
  rows = attacked.read_rows([one, two])
  assert [row["block"] for row in rows] == [8] * 7 + [4] * 5
  with pytest.raises(UserError, match="another 'images' than"):
    attacked.read_rows([one, write("three", 4, 2)])
  read = write("read", 4, 3, recognition={"workdir": "plain"})
  with pytest.raises(UserError, match="another 'recognition' than"):
    attacked.read_rows([one, read])
  noisy = write("noisy", 8, 3, private={"pixels": 4, "epsilon": 1.0})
  with pytest.raises(UserError, match="another 'private' than"):
    attacked.read_rows([one, noisy])
  exact = write("exact", 8, 3, private={"pixels": 0, "epsilon": 0.0})
  attacked.read_rows([one, exact])
  (tmp_path / "bare").write_text(json.dumps({"rows": ATTACKED}))
  with pytest.raises(UserError, match="holds no rows of attacks"):
    attacked.read_rows([tmp_path / "bare"])


def test_the_best_attack_is_that_of_the_best_mean_over_seeds():
  def row(attack, seed, ssim):
    return {"attack": attack, "scheme": "blockwise", "block": 8, "seed": seed,
            "keys": "image", "ssim": ssim}

  rows = [row("mosaic", 0, 0.5), row("mosaic", 1, 0.52), row("rank", 0, 0.7),
          row("rank", 1, 0.2), row("mosaic", 1, 0.54)]
  best = attacked.best_attacks(rows, "blockwise", 8)
  assert best.keys() == {"ssim"} and best["ssim"].attack == "mosaic"
  assert best["ssim"].value == pytest.approx(0.52)  # of 0.5 and 0.54
  assert str(best["ssim"]) == "0.52 ± 0.03 (mosaic)"
  assert attacked.best_attacks(rows, "blockwise", 16) == {}


@pytest.mark.parametrize("name, attacks, joined", [
    ("camvid", "camvid", {"paper.py:camvid": "camvid_records",
                          "levels.py:camvid": "camvid_levels_records"}),
    *((name, "camvid_pretrained", {f"paper.py:{name}": f"{name}_records"})
      for name in ("camvid_pretrained", "camvid_pretrained_gpu")),
])
def test_the_frontiers_in_the_docs_are_what_their_files_give(
    name, attacks, joined, tmp_path, monkeypatch
):
  monkeypatch.chdir(ROOT)
  results = ROOT / "docs" / "results"
  done = call(
      frontier.main, f"--out={tmp_path}",
      f"--attacks={results / attacks}_attacks.json",
      *(word for file, records in joined.items()
        for word in (f"--suite=configs/suites/{file}",
                     f"--records={results / records}.csv")),
  )
  assert done.returncode == 0, done.stderr
  table = (results / f"{name}_frontier.md").read_text()
  assert (tmp_path / "frontier.md").read_text() == table
