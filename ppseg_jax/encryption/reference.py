"""The ciphertext format in plain NumPy, to be read and ported; slow.

Nothing of JAX and nothing of the rest of the package is used but the classes
that hold an op's knobs, and the error. docs/encryption.md says the same in
words.
"""

import math

import numpy as np

from ppseg_jax.errors import UserError

DERIVE, ENCRYPT = 0, 1
KINDS = {
    "BlockScramble": 1, "PixelShuffle": 2, "NegativePositive": 3,
    "RotateFlip": 4, "ColourShuffle": 5,
}
MERGE = 6  # the kind of protected regions
ROTATIONS = (
    (10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10),
    (18, 20),
)


def threefry(key, counter) -> np.ndarray:
  """Threefry-4x32-20 of four words each: uint32 [4]."""
  mask = 2**32 - 1
  key = [int(word) for word in key]
  key.append(key[0] ^ key[1] ^ key[2] ^ key[3] ^ 0x1BD11BDA)
  x = [(int(c) + k) & mask for c, k in zip(counter, key[:4], strict=True)]
  for r in range(20):
    pairs = ((0, 3), (2, 1)) if r % 2 else ((0, 1), (2, 3))
    for (a, b), left in zip(pairs, ROTATIONS[r % 8], strict=True):
      x[a] = (x[a] + x[b]) & mask
      x[b] = ((x[b] << left | x[b] >> (32 - left)) & mask) ^ x[a]
    if r % 4 == 3:
      s = r // 4 + 1
      x = [(word + key[(s + i) % 5]) & mask for i, word in enumerate(x)]
      x[3] = (x[3] + s) & mask
  return np.array(x, np.uint32)


def derive(key, *data) -> np.ndarray:
  for item in data:
    key = threefry(key, (item, 0, 0, DERIVE))
  return key


def words(key, number: int, column: int, n: int, draw: int = 0) -> np.ndarray:
  """n words of a column of an op's stream: uint32 [n]."""
  if n > 2**26 or not 0 <= draw < 2**8 or not 0 <= column < 2**32:
    raise UserError(
        f"{n} words of column {column} in draw {draw} do not fit in a counter:"
        " at most 2^26 of each of 2^32 columns in each of 2^8 draws do."
    )
  rows = -(-n // 4)
  blocks = [
      threefry(key, (draw * 2**24 + row, column, number, ENCRYPT))
      for row in range(rows)
  ]
  return np.array(blocks).T.ravel()[:n]


def permutation(
    key, number: int, column: int, n: int, fraction: float = 1.0
) -> np.ndarray:
  """int [n]: place i takes what was at place permutation[i]."""
  b = (n - 1).bit_length()
  drawn = words(key, number, column, n) >> b
  bits = 0  # a slot, to break ties
  while n * (n - 1) // 2 * 2**20 > 2 ** (33 - b + bits):
    bits = {0: 16, 16: 32}.get(bits, bits + 32)
  order = np.argsort(drawn, kind="stable")
  if bits == 16:
    both = words(key, number, column, -(-n // 2), 1)
    ties = [np.concatenate([both >> 16, both & 0xFFFF])[:n]]
  else:
    ties = [words(key, number, column, n, 1 + d) for d in range(bits // 32)]
  perm = order[np.lexsort((*ties[::-1], drawn[order]))]
  if fraction == 1:
    return perm
  chosen = perm[: math.floor(fraction * n + 0.5)]
  restricted = np.arange(n)
  restricted[chosen] = np.roll(chosen, -1)
  return restricted


def _bits(key, number: int, column: int, n: int) -> np.ndarray:
  return words(key, number, column, n) >> 31 == 1


def _cells(cell: int, side: int) -> list[np.ndarray]:
  """The positions in a block of each cell's pixels."""
  cell = cell or side
  square = np.arange(side * side).reshape(side, side)
  return [
      square[y : y + cell, x : x + cell].ravel()
      for y in range(0, side, cell) for x in range(0, side, cell)
  ]


def apply(op, key, number: int, blocks: np.ndarray, grid, top: int = 255):
  """One op on blocks [N, P, C] (not NibbleSplit)."""
  out = blocks.copy()
  count, p, c = blocks.shape
  side = math.isqrt(p)
  kind = type(op).__name__
  if kind == "BlockScramble":
    h, w = op.height or grid[0], op.width or grid[1]
    square = np.arange(count).reshape(grid)
    region = 0
    for y in range(0, grid[0], h):
      for x in range(0, grid[1], w):
        places = square[y : y + h, x : x + w].ravel()
        perm = permutation(key, number, region, h * w, op.fraction)
        out[places] = blocks[places[perm]]
        region += 1
    return out

  for n in range(count):
    # Scope image: the columns of block 0 for all.
    index = n if op.scope == "block" else 0
    block = blocks[n]
    if kind == "NegativePositive":
      rows = p if op.unit in ("pixel", "value") else 1
      columns = c if op.unit in ("channel", "value") else 1
      bits = _bits(key, number, index, rows * columns).reshape(rows, columns)
      out[n] = np.where(bits, top - block, block)
    elif kind == "ColourShuffle":
      units = p if op.unit == "pixel" else 1
      for u in range(units):
        perm = permutation(key, number, index * units + u, c)
        pixels = slice(u, u + 1) if op.unit == "pixel" else slice(None)
        if op.overwrite:
          for channel in range(c):
            out[n, pixels, channel] = out[n, pixels, perm[channel]]
        else:
          out[n, pixels] = block[pixels][:, perm]
    else:
      cells = _cells(op.cell, side)
      for g, places in enumerate(cells):
        column = index * len(cells) + g
        if kind == "RotateFlip":
          move = int(words(key, number, column, 1)[0] >> 29)
          width = math.isqrt(len(places))
          square = places.reshape(width, width)
          if move >= 4:
            square = square[:, ::-1]
          out[n, places] = block[np.rot90(square, move % 4).ravel()]
        elif op.unit == "value":
          size = len(places) * c
          perm = permutation(key, number, column, size, op.fraction)
          out[n, places] = block[places].ravel()[perm].reshape(-1, c)
        elif op.unit == "pixel":
          perm = permutation(key, number, column, len(places), op.fraction)
          out[n, places] = block[places[perm]]
        else:
          for channel in range(c):
            perm = permutation(
                key, number, column * c + channel, len(places), op.fraction
            )
            out[n, places, channel] = block[places[perm], channel]
  return out


def leave(level, blocks: np.ndarray, grid) -> np.ndarray:
  """What a level leaves of blocks [N, P, C]; it takes no key."""
  n, p, c = blocks.shape
  k = level.merge
  out = np.empty_like(blocks)
  square = np.arange(n).reshape(grid)
  for y in range(0, grid[0], k):
    for x in range(0, grid[1], k):
      places = square[y : y + k, x : x + k].ravel()
      # Positions lead, then blocks, then channels.
      values = blocks[places].transpose(1, 0, 2)
      if level.unit == "channel":
        left = np.stack([
            _left(level, values[..., channel].ravel()) for channel in range(c)
        ], -1)
      else:
        left = _left(level, values.ravel())
      out[places] = left.reshape(values.shape).transpose(1, 0, 2)
  return out


def mix(op, blocks: np.ndarray) -> np.ndarray:
  """The mean of the parts of blocks [N, P, C] in place of each; no key."""
  n, p, c = blocks.shape
  side, k = math.isqrt(p), op.parts
  size = side // k
  square = blocks.reshape(n, side, side, c).astype(int)
  total = sum(
      square[:, y : y + size, x : x + size]
      for y in range(0, side, size) for x in range(0, side, size)
  )
  mean = (2 * total + k * k) // (2 * k * k)  # half rounded up
  return np.tile(mean, (1, k, k, 1)).astype(np.uint8).reshape(n, p, c)


def _left(level, values: np.ndarray) -> np.ndarray:
  """The level's numbers of a unit's values, each as often as it stands for."""
  numbers = sorted(int(v) for v in values)
  if level.groups:
    while len(numbers) // level.groups % 2 == 0:
      numbers = [  # of two halves round to even
          round((a + b) / 2)
          for a, b in zip(numbers[::2], numbers[1::2], strict=True)
      ]
    n = len(numbers) // level.groups
    numbers = [
        (2 * sum(numbers[i : i + n]) + n) // (2 * n)
        for i in range(0, len(numbers), n)
    ]
  low = 8 - level.bits
  numbers = [v >> low << low | (1 << low >> 1) for v in numbers]
  return np.repeat(np.array(numbers, np.uint8), len(values) // len(numbers))


def merge(
    unit: str, key, image: np.ndarray, cells: np.ndarray, block: int
) -> np.ndarray:
  """Values go to places of their whole cell of blocks; `cells` [rows, columns].
  """
  h, w, c = image.shape
  grid = (h // block, w // block)
  blocks = image.reshape(grid[0], block, grid[1], block, c)
  blocks = blocks.transpose(0, 2, 1, 3, 4)
  rows = blocks.reshape(-1, 1 if unit == "value" else c)
  out, n = rows.copy(), len(rows)
  cell = np.repeat(cells.ravel(), n // cells.size)
  draws = 2 if n <= 2**23 else 3
  for column in range(1 if unit == "pixel" else rows.shape[1]):
    drawn = [words(key, 256 * MERGE, column, n, d) for d in range(draws)]
    moved = slice(None) if unit == "pixel" else column
    for number in np.unique(cells[cells > 0]):
      places = np.flatnonzero(cell == number)
      order = np.lexsort([word[places] for word in drawn[::-1]])
      out[places, moved] = rows[places[order], moved]
  shape = (*grid, block, block, c)
  return out.reshape(shape).transpose(0, 2, 1, 3, 4).reshape(h, w, c)


def encrypt(scheme, key, image: np.ndarray, block: int = 16) -> np.ndarray:
  """Encrypts one image, uint8 [H, W, C], under key words uint32 [4]."""
  h, w, c = image.shape
  grid = (h // block, w // block)
  blocks = image.reshape(grid[0], block, grid[1], block, c)
  blocks = blocks.transpose(0, 2, 1, 3, 4).reshape(-1, block * block, c)
  seen = dict.fromkeys(KINDS, 0)

  def run(op, blocks, top):
    kind = type(op).__name__
    if seen[kind] == 256:
      raise UserError(f"a scheme has at most 256 ops {kind}.")
    number = 256 * KINDS[kind] + seen[kind]
    seen[kind] += 1
    return apply(op, key, number, blocks, grid, top)

  for op in scheme.ops:
    if type(op).__name__ == "NibbleSplit":
      halves = np.concatenate([blocks >> 4, blocks & 15], axis=-1)
      for inner in op.ops:
        halves = run(inner, halves, 15)
      blocks = halves[..., :c] << 4 | halves[..., c:]
    elif type(op).__name__ == "Level":
      blocks = leave(op, blocks, grid)
    elif type(op).__name__ == "Mix":
      blocks = mix(op, blocks)
    else:
      blocks = run(op, blocks, 255)
  blocks = blocks.reshape(*grid, block, block, c)
  return blocks.transpose(0, 2, 1, 3, 4).reshape(h, w, c)
