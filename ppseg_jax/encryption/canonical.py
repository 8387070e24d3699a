"""The canonical form of each block: all that a key of a scheme leaves of it.

An op of scope `block` applies a uniform element of a group to each block, on
its own. Where those groups permute (G H = H G), the ops together apply a
uniform element of the group that they generate, so that a ciphertext, the only
one under its key, tells the orbit of its block and nothing else, whatever the
order of the ops. The form is a representative of the orbit:

    the least of shuffle(colour(fold(a b))), over elements a of a small group

`fold` undoes signs of single values, `colour` what happens inside pixels,
`shuffle` what happens inside cells; the small group holds what is left: turns
of the block, orders of its channels, signs of whole channels or of the block.
Block scrambling leaves the multiset of the forms, which are sorted.
"""

import functools
import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ppseg_jax.encryption import ops as ops_
from ppseg_jax.encryption.blocks import (
    check_images,
    join,
    per_image,
    to_blocks,
)
from ppseg_jax.encryption.levels import Level
from ppseg_jax.encryption.mix import Mix
from ppseg_jax.encryption.ops import (
    BlockScramble,
    ColourShuffle,
    NegativePositive,
    NibbleSplit,
    PixelShuffle,
    RotateFlip,
    negate,
)
from ppseg_jax.encryption.permutations import in_chunks, sort_leading
from ppseg_jax.encryption.schemes import (
    Scheme,
    at_level,
    get_scheme,
    ops_of,
)
from ppseg_jax.errors import UserError

Step = Callable[[jax.Array, ops_.Grid], jax.Array]


def canonical(
    scheme: str | Scheme, images: jax.Array, block: int = 16
) -> jax.Array:
  """The canonical form of each block: all that a key of the scheme leaves.

  For every key k, to the last bit,
  `canonical(s, encrypt(s, k, x)) == canonical(s, x)`. Under fresh uniform keys
  two images with the same canonical form have the same distribution of
  ciphertexts, so that a ciphertext, the only one under its key, leaks this form
  and nothing else.

  `plain`: the block itself. Pixel shuffle: the values of each block or cell
  sorted, all together (unit value: one histogram), by channel (unit channel: a
  histogram a channel) or as whole colours (unit pixel: the multiset of
  colours). Negative-positive: min(v, 255 - v) by value; for larger units the
  lesser of the unit and its negative. Rotate and flip: the least of the 8
  moves. Colour shuffle: the least order of the channels, of the block or of
  each pixel. Half bytes: the same of half bytes, joined. A level or a mix: its
  value, spread over the block. Block scramble: the forms of the blocks of each
  region, sorted. Least and sorted mean in
  lexicographic order, positions first and then channels.

  Args:
    scheme: its name or object.
    images: uint8 or float [B, H, W, C] (or [H, W, C]), plain or encrypted.
    block: the side M of a block in pixels.

  Returns:
    [B, N, M*M*C] (or [N, M*M*C]) of the images' dtype: the N blocks in
    row-major order, in each the positions and then the channels.

  Raises:
    UserError: where the scheme has no canonical form, with the reason.
  """
  steps = canonical_steps(scheme)
  images = jnp.asarray(images)
  check_images(images, block)
  at_once = len(images) if images.ndim == 4 else 1

  def one(image: jax.Array) -> jax.Array:
    grid = (image.shape[0] // block, image.shape[1] // block)
    blocks = to_blocks(image, block)
    *within, across = steps
    if within:
      def form(_, chunk):
        for step in within:
          chunk = step(chunk, grid)
        return chunk

      size = blocks.dtype.itemsize * blocks[:, 0].size
      blocks = in_chunks(form, blocks, at_once, -(-size // 4))
    blocks = across(blocks, grid)
    return blocks.transpose(1, 0, 2).reshape(blocks.shape[1], -1)

  return per_image(one, images)


def representative(
    scheme: str | Scheme, images: jax.Array, block: int = 16
) -> jax.Array:
  """The images with each block replaced by its canonical form.

  It is one of the ciphertexts that the scheme's keys give, so that a model
  that reads the form gives it the very logits of any other, and it shows what
  they show: a client that does not want its image back may send it, without a
  key. Its blocks are in order where the scheme's are.

  Args:
    scheme: its name or object.
    images: uint8 or float [B, H, W, C] (or [H, W, C]).
    block: the side M of a block in pixels.

  Returns:
    Images of the same shape and dtype.

  Raises:
    UserError: where the scheme has no canonical form, with the reason.
  """
  form = canonical(scheme, images, block)  # [..., N, M*M*C]
  height, width, channels = images.shape[-3:]
  cells = form.reshape(-1, form.shape[-2], block, block, channels)
  return join(cells, (height // block, width // block)).reshape(images.shape)


def release(
    scheme: str | Scheme, level: str, images: jax.Array, block: int = 16
) -> jax.Array:
  """The images that carry what a level leaves of the scheme's form, no more.

  As `representative`, of which it is the case `blockwise_q4` and the like:
  whatever takes a ciphertext of the scheme takes these. See `levels`.

  Args:
    scheme: `blockwise` or `blockwise_value`.
    level: as `q4`; '' for all of the form.
    images: uint8 [B, H, W, C] (or [H, W, C]).
    block: the side M of a block in pixels.

  Raises:
    UserError: for what is no level, or does not divide the blocks.
  """
  if level:
    scheme = at_level(scheme, level)
  return representative(scheme, images, block)


def canonical_steps(scheme: str | Scheme) -> tuple[Step, ...]:
  """The maps (blocks [P, N, C], grid) -> blocks that make the canonical form.

  All but the last act on each block alone.

  Raises UserError, with the reason, where there is none that is cheap to find.
  """
  scheme = get_scheme(scheme)

  def refuse(why: str) -> UserError:
    return UserError(f"scheme '{scheme.name}' has no canonical form: {why}")

  known = (PixelShuffle, NegativePositive, ColourShuffle, RotateFlip)
  for op in scheme.ops:
    if not isinstance(op, (*known, BlockScramble, NibbleSplit, Level, Mix)):
      raise refuse(f"what {type(op).__name__} leaves of a block is not known"
                   " here.")
    for inside in getattr(op, "ops", ()):
      if not isinstance(inside, known):
        raise refuse(f"NibbleSplit holds {type(inside).__name__}.")
  scrambles = [op for op in scheme.ops if isinstance(op, BlockScramble)]
  inner = [op for op in scheme.ops if not isinstance(op, BlockScramble)]
  for op in ops_of(scheme):
    if getattr(op, "scope", "block") == "image":
      raise refuse(
          "with scope 'image' all blocks share one random choice, so the"
          " blocks can only be normalised together, not one by one; use an"
          " op of scope 'block'."
      )
    if getattr(op, "fraction", 1) != 1:
      raise refuse(
          "permutations that leave a share in place are no group, so what they"
          " leave has no normal form; use fraction=1."
      )
    if getattr(op, "overwrite", False):
      raise refuse("overwriting channels cannot be undone; use 'etc'.")
  if len({(op.height, op.width) for op in scrambles}) > 1:
    raise refuse("it scrambles blocks in regions of two sizes.")
  across = _sorted_blocks(scrambles[0]) if scrambles else (lambda b, grid: b)
  if level := next((op for op in inner if isinstance(op, Level)), None):
    if inner != [level, PixelShuffle(level.unit, "block")]:
      raise refuse(f"a level of unit '{level.unit}' goes before a shuffle of"
                   " that unit within blocks, and nothing else.")
    if scrambles and level.merge > 1:
      raise refuse("blocks that are taken together must stay in place.")
    leave = lambda blocks, grid: level.encrypt(None, blocks, grid)
    return (leave, across) if level.merge == 1 else (leave,)
  if mix := next((op for op in inner if isinstance(op, Mix)), None):
    if len(inner) > 1:
      raise refuse("a mean of parts does not go with other ops inside a block.")
    return (lambda blocks, grid: mix.encrypt(None, blocks, grid)), across
  if any(isinstance(op, NibbleSplit) for op in inner):
    if len(inner) > 1:
      raise refuse("NibbleSplit does not mix with other ops inside a block.")
    form = _form(inner[0].ops, refuse, top=15)
    within = lambda blocks, grid: ops_.join(form(ops_.split(blocks)))
  else:
    form = _form(tuple(inner), refuse, top=255)
    within = lambda blocks, grid: form(blocks)
  return (within, across) if inner else (across,)


def _form(ops: tuple, refuse: Callable, top: int) -> Callable:
  """The canonical form of blocks [P, N, C] under ops inside a block."""
  def units(kind: type) -> set[str]:
    return {op.unit for op in ops if isinstance(op, kind)}

  shuffles, signs = units(PixelShuffle), units(NegativePositive)
  colours = units(ColourShuffle)
  cells = {op.cell for op in ops if isinstance(op, PixelShuffle)}
  turns = {op.cell for op in ops if isinstance(op, RotateFlip)}
  if len(cells) > 1 or len(turns - {0}) > 1:
    raise refuse("its cells are of several sizes.")
  cell = cells.pop() if cells else 0
  if shuffles and (turns - {0, cell} if cell else False):
    raise refuse("it shuffles inside cells of one size and turns another.")
  unit = next((u for u in ("value", "channel", "pixel") if u in shuffles), "")
  if "value" in signs:
    signs = {"value"}  # the others do nothing on top
  if unit == "value" and signs & {"channel", "pixel"}:
    raise refuse("negatives of whole channels or pixels and a shuffle that"
                 " mixes channels make no group.")
  if unit == "channel" and "pixel" in signs:
    raise refuse("negatives of pixels and a shuffle that takes their channels"
                 " apart make no group.")
  if "pixel" in colours and unit == "channel":
    raise refuse("a colour shuffle by pixel and a pixel shuffle by channel make"
                 " no group.")
  if "pixel" in colours and "channel" in signs:
    raise refuse("a colour shuffle by pixel and negatives of whole channels"
                 " make no group.")
  if unit == "value":
    colours = set()
  elif "pixel" in colours:
    colours = {"pixel"}
  turn_block = 0 in turns and not (shuffles and not cell)
  turn_cell = max(turns, default=0) if not shuffles else 0
  if unit and not cell:
    turn_cell = 0
  # A shuffle of cells, or a colour shuffle within pixels, knows no signs of
  # larger units: those are in the small group.
  if signs & {"channel"}:
    signs = signs - {"block"}
  if signs & {"pixel"}:
    signs = signs - {"block"}

  def normalise(blocks: jax.Array) -> jax.Array:
    if "value" in signs:
      blocks = jnp.minimum(blocks, negate(blocks, top))
    if "pixel" in colours:
      blocks = sort_leading(blocks.transpose(2, 0, 1)).transpose(1, 2, 0)
    if "pixel" in signs:
      blocks = _lesser_pixels(blocks, "pixel" in colours, top)
    if turn_cell:
      blocks = _least_cells(blocks, turn_cell)
    if unit:
      blocks = _sorted(blocks, unit, cell)
    return blocks

  def form(blocks: jax.Array) -> jax.Array:
    p, _, c = blocks.shape
    group = small_group(
        math.isqrt(p), c, turn_block, "block" in colours,
        "channel" if "channel" in signs else
        "block" if "block" in signs else "",
    )
    return _least_of(group, normalise, blocks, top)

  return form


def small_group(
    side: int, channels: int, turn: bool, colour: bool, sign: str
) -> tuple[np.ndarray, np.ndarray]:
  """Turns, orders of the channels and signs of a block, all combined.

  Args:
    side: of the block in pixels.
    channels: C.
    turn: whether the 8 moves of the square are among them.
    colour: whether the orders of the channels are.
    sign: v -> top - v of each `channel`, of the whole `block`, or of none.

  Returns:
    The A elements as (the place each value is read from, int32 [A, P*C]; the
    channels that are negated then, bool [A, C]).
  """
  p = side * side
  moves = ops_.dihedral(side) if turn else np.arange(p)[None]
  if colour and channels > 4:
    raise UserError(
        "the canonical form of a colour shuffle is for at most 4 channels, not"
        f" {channels}."
    )
  same = tuple(range(channels))
  orders = np.array(list(itertools.permutations(same)) if colour else [same])
  if sign == "channel":
    flips = np.array(list(itertools.product((False, True), repeat=channels)))
  else:
    flips = np.tile([[False], [True]], channels)[: 2 if sign else 1]
  source = moves[:, None, :, None] * channels + orders[None, :, None, :]
  source = source.reshape(-1, p * channels).astype(np.int32)
  return (
      np.repeat(source, len(flips), axis=0), np.tile(flips, (len(source), 1))
  )


def _least_of(
    group: tuple[np.ndarray, np.ndarray], normalise: Callable,
    blocks: jax.Array, top: int,
) -> jax.Array:
  source, negative = group
  first = normalise(blocks)
  if len(source) == 1:
    return first
  p, n, c = blocks.shape

  def values(blocks):  # [P, N, C] -> [P*C, N]
    return blocks.transpose(0, 2, 1).reshape(p * c, n)

  rows = values(blocks)

  def step(best, element):
    source, negative = element
    moved = rows[source].reshape(p, c, n).transpose(0, 2, 1)
    moved = jnp.where(negative, negate(moved, top), moved)
    return _lesser(values(normalise(moved)), best), None

  elements = (jnp.asarray(source[1:]), jnp.asarray(negative[1:]))
  best = jax.lax.scan(step, values(first), elements)[0]
  return best.reshape(p, c, n).transpose(0, 2, 1)


def _lesser(a: jax.Array, b: jax.Array) -> jax.Array:
  """Of each pair of columns of [L, ...] the lesser in lexicographic order."""
  at = jnp.argmax(a != b, axis=0, keepdims=True)
  less = jnp.take_along_axis(a, at, 0) < jnp.take_along_axis(b, at, 0)
  return jnp.where(less, a, b)


def _lesser_pixels(blocks: jax.Array, ordered: bool, top: int) -> jax.Array:
  """Each pixel or its negative; `ordered`: of sorted pixels, kept sorted."""
  pixels = blocks.transpose(2, 0, 1)
  other = negate(pixels, top)
  return _lesser(pixels, other[::-1] if ordered else other).transpose(1, 2, 0)


def _least_cells(blocks: jax.Array, cell: int) -> jax.Array:
  cells = ops_.to_cells(blocks, cell)
  p, n, g, c = cells.shape
  moves = ops_.dihedral(math.isqrt(p))
  values = lambda cells: cells.transpose(0, 3, 1, 2).reshape(p * c, n, g)
  candidates = [values(cells[jnp.asarray(move)]) for move in moves]
  least = functools.reduce(_lesser, candidates).reshape(p, c, n, g)
  return ops_.from_cells(least.transpose(0, 2, 3, 1))


def _sorted(blocks: jax.Array, unit: str, cell: int) -> jax.Array:
  channels = blocks.shape[2]
  cells = ops_.to_cells(blocks, cell)
  if unit != "pixel":
    rows = sort_leading(ops_.to_rows(cells, unit))
    return ops_.from_cells(ops_.from_rows(rows, unit, channels))
  if blocks.dtype != jnp.uint8 or channels > 4:
    raise UserError(
        "the canonical form for unit 'pixel' needs uint8 images of at most 4"
        f" channels, not {blocks.dtype} of {channels}."
    )
  shifts = jnp.arange(channels - 1, -1, -1, dtype=jnp.uint32) * 8
  packed = (cells.astype(jnp.uint32) << shifts).sum(-1, dtype=jnp.uint32)
  ordered = sort_leading(packed)[..., None] >> shifts
  return ops_.from_cells((ordered & 0xFF).astype(jnp.uint8))


def _sorted_blocks(scramble: BlockScramble) -> Step:
  """Sorts the blocks of each region in lexicographic order."""
  def across(blocks: jax.Array, grid: ops_.Grid) -> jax.Array:
    regions = scramble.to_regions(blocks, grid)
    n, count, p, c = regions.shape
    values = regions.reshape(n, count, p * c)
    order = _lexicographic(_as_words(values))
    ordered = jnp.take_along_axis(values, order[..., None], axis=0)
    return scramble.from_regions(
        ordered.reshape(regions.shape), blocks.shape, grid
    )

  return across


def _as_words(values: jax.Array) -> jax.Array:
  """[..., L] -> [W, ...] of the same order: four bytes make a word."""
  if values.dtype == jnp.uint8:
    padding = [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % 4)]
    four = jnp.pad(values, padding).astype(jnp.uint32)
    four = four.reshape(*values.shape[:-1], -1, 4)
    shifts = jnp.array([24, 16, 8, 0], jnp.uint32)
    values = (four << shifts).sum(-1, dtype=jnp.uint32)
  return jnp.moveaxis(values, -1, 0)


def _lexicographic(words: jax.Array) -> jax.Array:
  """The order of [W, n, ...] along n, word after word: int32 [n, ...].

  Word by word from the first, until no two are level: real blocks mostly
  differ in their first words. Which of equal ones comes first is left open.
  """
  order = jnp.broadcast_to(
      jnp.arange(words.shape[1])[:, None], words.shape[1:]
  )

  def undecided(state):
    at, rank, _ = state
    return (at < words.shape[0]) & (rank[1:] == rank[:-1]).any()

  def by_word(state):
    at, rank, order = state
    word = jnp.take_along_axis(words[at], order, axis=0)
    rank, word, order = jax.lax.sort(
        (rank, word, order), dimension=0, num_keys=2
    )
    differ = (rank[1:] != rank[:-1]) | (word[1:] != word[:-1])
    rank = jnp.pad(jnp.cumsum(differ, axis=0), [(1, 0), (0, 0)])
    return at + 1, rank, order

  start = (0, jnp.zeros_like(order), order)
  return jax.lax.while_loop(undecided, by_word, start)[2]
