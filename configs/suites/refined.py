"""The comparison with the client's refinement, for plain and encrypted models.

python -m ppseg_jax.experiments --suite=configs/suites/refined.py --workdir=W
    The runs of `paper.py`, which may lie in the same folder already, and what a
    client makes of the logits of some of them; a minute each on 2 cores.
"""

import dataclasses

from ppseg_jax.configs.suites import paper
from ppseg_jax.experiments import Row, Run

_REFINED = (
    "plain", "blockwise", "blockwise_value", "blockwise_hidden",
    "blockwise_16_of_8", "rank_16_of_8", "rank_after", "rank_16_of_8_after",
    "taught", "taught_16_of_8",
)
_HOW = {
    "guided": "guided filter",
    "network": "network of the client",
}


def get_suite(scale: str = "demo") -> list[Run]:
  """`paper.py`'s suite at that scale, and its rows refined."""
  runs = []
  for run in paper.get_suite(scale):
    rows = run.rows
    if run.name in _REFINED:
      rows += tuple(
          Row(f"{rows[0].name} + {title}", rows[0].shares, rows[0].test,
              refined=how)
          for how, title in _HOW.items()
      )
    if run.name == "plain":
      rows += (Row("network of the client alone", "nothing",
                   leaks="Nothing: no image leaves the client.",
                   refined="alone"),)
    runs.append(dataclasses.replace(run, rows=rows))
  return runs
