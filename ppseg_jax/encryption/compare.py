"""Which of two schemes shows more of a picture, told from their ops.

A scheme shows no more than another if what it leaves, its canonical form,
follows from any ciphertext of the other: if it hides whatever each op of the
other may do to a block, which are only ever moves that one of its own ops may
do as well.
"""

from ppseg_jax.encryption.canonical import canonical_steps
from ppseg_jax.encryption.levels import Level, nested
from ppseg_jax.encryption.mix import Mix
from ppseg_jax.encryption.ops import (
    BlockScramble,
    ColourShuffle,
    NegativePositive,
    NibbleSplit,
    Op,
    PixelShuffle,
    RotateFlip,
)
from ppseg_jax.encryption.schemes import Scheme, get_scheme
from ppseg_jax.errors import UserError

_UNITS = ("pixel", "channel", "value")  # of a shuffle, each within the next


def shows_no_more(
    scheme: str | Scheme, block: int, limit: str | Scheme, limit_block: int
) -> bool:
  """Whether `scheme` shows nothing of a picture that `limit` hides.

  True only where this follows from the ops, for keys that are used once:
  where canonical(scheme, encrypt(limit, key, x)) == canonical(scheme, x) for
  every key. Some pairs are not ordered: each shows what the other hides. A
  scheme without a canonical form, as those of scope `image`, is known to show
  no more than itself and than the plain picture, and that is all.

  Args:
    scheme: its name or object.
    block: its block size in pixels.
    limit: the scheme to compare with; likewise.
    limit_block: its block size in pixels.

  Raises:
    UserError: for an unknown scheme.
  """
  scheme, limit = get_scheme(scheme), get_scheme(limit)
  same = (scheme.ops, block) == (limit.ops, limit_block)
  if same or not limit.ops:
    return True
  try:
    canonical_steps(scheme)
  except UserError:
    return False
  return all(
      any(_may_do(wide, block, op, limit_block) for wide in scheme.ops)
      for op in limit.ops
  )


def _may_do(wide: Op, block: int, op: Op, op_block: int) -> bool:
  """Whether all that `op` may do to an image is among what `wide` may do.

  `wide` is one of a scheme with a canonical form: it draws from a whole group,
  for each block. Then it does not matter how `op` draws.
  """
  match wide, op:
    case Level(), Level():
      values = block**2 * (3 if wide.unit == "value" else 1)
      return (block == op_block and wide.unit == op.unit
              and nested(op, wide, values))
    case Mix(), Mix():
      return (wide, block) == (op, op_block)
    case NibbleSplit(), NibbleSplit():
      return all(any(_may_do(outer, block, inner, op_block)
                     for outer in wide.ops) for inner in op.ops)
    case NibbleSplit(), _:  # whole values move and invert as their halves do
      return any(outer.unit == "value" and _may_do(outer, block, op, op_block)
                 for outer in wide.ops)
    case BlockScramble(), BlockScramble():
      return block == op_block and all(
          large == 0 or (small > 0 and large % small == 0)
          for large, small in ((wide.height, op.height), (wide.width, op.width))
      )
    case PixelShuffle(), PixelShuffle() | RotateFlip():
      unit = getattr(op, "unit", "pixel")
      return _UNITS.index(unit) <= _UNITS.index(wide.unit) and (
          (wide.cell or block) % (op.cell or op_block) == 0
      )
    case PixelShuffle(), ColourShuffle():
      return wide.unit == "value" and not op.overwrite
    case RotateFlip(), RotateFlip():
      return (wide.cell or block) == (op.cell or op_block)
    case NegativePositive(), NegativePositive():
      return wide.unit == "value" or (op.unit in (wide.unit, "block") and (
          wide.unit == "pixel" or op_block % block == 0
      ))
    case ColourShuffle(), ColourShuffle():
      return not op.overwrite and (wide.unit == "pixel" or (
          op.unit == "block" and op_block % block == 0
      ))
  return False
