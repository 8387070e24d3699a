"""One model for every level of what a client shows, and one for each alone.

python -m ppseg_jax.experiments --suite=configs/suites/levels.py --workdir=W
    Drawn street scenes; some minutes a run on 2 cores, one seed.
python -m ppseg_jax.experiments --suite=configs/suites/levels.py:camvid \
    --data-dir=/data/camvid --workdir=W
    Real street scenes at 96x128, 500 steps for one level and 2,000 for all,
    three seeds: an hour and a half on 2 idle cores; docs/levels.md has figures.
"""

from ppseg_jax.configs import setr_levels
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import Row, Run

_ALONE = ("", "q4", "q1", "m2q4")  # with a model that saw no other


def get_suite(scale: str = "demo") -> list[Run]:
  """The levels at the scale `demo` or `camvid`."""
  match scale:
    case "demo":
      data, seeds = "streets", (0,)
      fields = {"steps": 200, "eval.every": 100}
    case "camvid":
      data, seeds, fields = "camvid", (0, 1, 2), {}
    case _:
      raise UserError(
          f"'{scale}' is none of demo, camvid; write"
          " --suite=configs/suites/levels.py:camvid, for example."
      )

  def run(name, config, title, tested, **more):
    """A run with a row for each level that it is tested at."""
    return Run(
        name=name, config=f"configs/{config}.py:{data}", seeds=seeds,
        fields=fields | more,
        rows=tuple(
            Row(f"{title}, {_scheme(level)}", "no key",
                {"scheme": _scheme(level)})
            for level in tested
        ),
    )

  return [
      run("levels", "setr_levels", "one model",
          dict.fromkeys(setr_levels.get_config(data).levels)),
      *(run(f"level_{level or 'all'}", "setr_enc", "its own model", (level,),
            levels=(level,) if level else ())
        for level in _ALONE),
  ]


def _scheme(level: str) -> str:
  return f"blockwise_{level}" if level else "blockwise"
