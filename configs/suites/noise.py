"""What noise costs: accuracy against epsilon, of pictures released with it.

python -m ppseg_jax.experiments --suite=configs/suites/noise.py --workdir=W
    Drawn street scenes; some minutes a run on 2 cores.
python -m ppseg_jax.experiments --suite=configs/suites/noise.py:camvid \
    --data-dir=/data/camvid --workdir=W
    Real street scenes at 96x128, 500 steps, one seed: three minutes a run with
    blocks of 8 and two with blocks of 16 on 2 cores, 75 minutes in all.

A model for each budget, trained and tested on images released once under it,
see docs/levels.md; of the means of blocks, and of histograms of 8 bins.
"""

from ppseg_jax.encryption.private import Budget
from ppseg_jax.errors import UserError
from ppseg_jax.experiments import Row, Run

_PIXELS = (4, 16, 64)  # in which neighbours differ
# Of an image. A guarantee of epsilon 1 is one of rho 1/2 as well (Bun and
# Steinke, TCC 2016), and it is rho that adds up over pictures with less noise.
_BUDGETS = (("epsilon", 10.0), ("epsilon", 1.0), ("rho", 0.5))
# Name, what a row says of it, `private.bits`: means and histograms.
_FORMS = (("noise", "", 0), ("histogram", ", histograms of 8 bins", 3))
# Noise of a block's mean, as a standard deviation in grey levels of 255, that
# is of interest: of less a model was expected to lose little, of more all.
_LEAST, _MOST = 4, 300


def get_suite(scale: str = "demo") -> list[Run]:
  """The budgets at the scale `demo` or `camvid`."""
  match scale:
    case "demo":
      data, fields = "streets", {"steps": 200, "eval.every": 100}
    case "camvid":
      data, fields = "camvid", {}
    case _:
      raise UserError(
          f"'{scale}' is none of demo, camvid; write"
          " --suite=configs/suites/noise.py:camvid, for example."
      )
  return [
      Run(
          name=f"{form}_{block}_{pixels}_{kind}{spent:g}",
          config=f"configs/setr_enc.py:{data}",
          rows=(Row(f"blocks of {block}{of_what}, {pixels} pixels, {kind}"
                    f" {spent:g}: noise of {deviation:.0f} of 255", "no key"),),
          fields=fields | {"block": block, "private.pixels": pixels,
                           f"private.{kind}": spent, "private.bits": bits},
      )
      for form, of_what, bits in _FORMS
      for block in (8, 16)
      for pixels in _PIXELS
      for kind, spent in _BUDGETS
      if _LEAST < (deviation := Budget(pixels, **{kind: spent}).of_mean(
          block, bits=bits
      )) < _MOST
  ]
