"""What attacks got, of the attacks.json that runs of ppseg_jax.attacks left."""

import statistics
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from ppseg_jax.errors import UserError
from ppseg_jax.runs import workdir

MEASURES = {  # of a reconstruction -> heading
    "ssim": "SSIM", "edge": "edges", "miou": "recognised, mIoU",
}

# Fields of the attacks' config, besides data, that must be the same to compare.
_SAME = ("images", "others", "recognition")
# Attacks that have several pictures of a scene, of which a scheme says nothing.
_SEVERAL = ("views", "containment", "key_reuse")


class Best(NamedTuple):
  """The best attack by a measure.

  Attributes:
    value: the mean over seeds.
    attack: its name.
    spread: standard deviation over seeds; None of one seed.
  """

  value: float
  attack: str
  spread: float | None = None

  def __str__(self) -> str:
    spread = "" if self.spread is None else f" ± {self.spread:.2f}"
    return f"{self.value:.2f}{spread} ({self.attack})"


def best_attacks(
    rows: list[dict], scheme: str, block: int
) -> dict[str, Best]:
  """By each measure the attack on the scheme whose mean over seeds is highest.

  Of several rows of an attack with one seed its best counts. Only attacks on
  one picture under a key of its own count: several show more than each, and
  with a shared key one known pair opens all.
  """
  best = {}
  for measure in MEASURES:
    found = defaultdict(lambda: defaultdict(list))  # attack -> seed -> values
    for row in rows:
      if ((row["scheme"], row["block"], row["keys"]) == (scheme, block, "image")
          and row["attack"] not in _SEVERAL
          and row.get(measure) is not None):
        found[row["attack"]][row.get("seed")].append(row[measure])
    means = []
    for attack, by_seed in found.items():
      values = [max(one) for one in by_seed.values()]
      spread = statistics.stdev(values) if len(values) > 1 else None
      means.append(Best(statistics.mean(values), attack, spread))
    if means:
      best[measure] = max(means, key=lambda one: one[:2])
  return best


def read_rows(paths: list[Path]) -> list[dict]:
  """The rows of every attacks.json of ppseg_jax.attacks that is given.

  They may differ in attacks, schemes, block and seed, from which keys and
  networks are drawn.

  Raises UserError without them, and where they were not made of the same images
  and judged by the same segmenter.
  """
  rows, first = [], None
  for path in paths:
    if not path.is_file():
      raise UserError(f"--attacks={path} does not exist.")
    result = workdir.read_json(path)
    found, config = result.get("rows"), result.get("config", {})
    if not found or found[0].get("attack") is None or "block" not in config:
      raise UserError(
          f"--attacks={path} holds no rows of attacks; give the attacks.json"
          " that python -m ppseg_jax.attacks wrote."
      )
    made = {name: config.get(name) for name in _SAME}
    private = config.get("private", {})  # of releases with noise
    made["private"] = private if private.get("pixels") else None
    made["data"] = {name: value for name, value in config["data"].items()
                    if name not in ("dir", "cache")}
    first = first or made
    for name in made:
      if made[name] != first[name]:
        raise UserError(
            f"--attacks={path} was made with another '{name}' than {paths[0]};"
            " give results that differ in schemes, attacks, block and seed"
            " alone."
        )
    found = [{"block": config["block"], "seed": config.get("seed")} | row
             for row in found]
    rows += found if not rows else [row for row in found if row["scheme"]]
  return rows
