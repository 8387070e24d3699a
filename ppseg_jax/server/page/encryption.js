// The ciphertext format of docs/encryption.md, as ppseg_jax/encryption/reference.py
// has it in NumPy: the same bytes from the same key.
//
// Pixels are Uint8Array, [height, width, 3]; a key is Uint32Array of 4 words.

const KINDS = {
  BlockScramble: 1, PixelShuffle: 2, NegativePositive: 3, RotateFlip: 4,
  ColourShuffle: 5,
};
const ENCRYPT = 1; // the keystream's purpose
const ROTATIONS = [
  10, 26, 11, 21, 13, 27, 23, 5, 6, 20, 17, 11, 25, 10, 18, 20,
];

const shuffle = (unit) => ({ kind: "PixelShuffle", unit });
const negative = (unit) => ({ kind: "NegativePositive", unit });
const scramble = { kind: "BlockScramble", height: 0 };

// Schemes that give each block random choices of its own. The others are broken
// by a ciphertext alone, and `plain` hides nothing: this page does not use them.
const SCHEMES = {
  ele: [
    { kind: "NibbleSplit", ops: [negative("value"), shuffle("value")] }, scramble,
  ],
  pe: [negative("value"), { kind: "ColourShuffle", unit: "pixel" }],
  etc: [
    scramble, { kind: "RotateFlip" }, negative("block"),
    { kind: "ColourShuffle", unit: "block" },
  ],
  blockwise: [shuffle("channel")],
  blockwise_value: [shuffle("value")],
  blockwise_pixel: [shuffle("pixel")],
  blockwise_negative: [negative("value"), shuffle("channel")],
  blockwise_scrambled: [shuffle("channel"), scramble],
};

// The ops of a scheme, {ops, hidden}; undefined if this page does not use it.
// As `get_scheme`: NAME_hidden and NAME_bands2 scramble blocks first.
export function findScheme(name) {
  if (Object.hasOwn(SCHEMES, name)) return { ops: SCHEMES[name], hidden: false };
  const [, base, bands] = name.match(/^(\w+?)_(?:hidden|bands([1-9]\d*))$/) ?? [];
  if (!base || !Object.hasOwn(SCHEMES, base)) return undefined;
  const first = { ...scramble, height: Number(bands ?? 0) };
  return { ops: [first, ...SCHEMES[base]], hidden: true };
}

// 20 rounds of Threefry-4x32; `x`, four words of Uint32Array, is overwritten.
export function threefry(key, x) {
  const parity = key[0] ^ key[1] ^ key[2] ^ key[3] ^ 0x1bd11bda;
  const schedule = [key[0], key[1], key[2], key[3], parity];
  let a = (x[0] + key[0]) | 0;
  let b = (x[1] + key[1]) | 0;
  let c = (x[2] + key[2]) | 0;
  let d = (x[3] + key[3]) | 0;
  for (let round = 0; round < 20; round += 2) {
    const at = (2 * round) % 16;
    let left = ROTATIONS[at];
    let right = ROTATIONS[at + 1];
    a = (a + b) | 0;
    b = ((b << left) | (b >>> (32 - left))) ^ a;
    c = (c + d) | 0;
    d = ((d << right) | (d >>> (32 - right))) ^ c;
    left = ROTATIONS[at + 2];
    right = ROTATIONS[at + 3];
    a = (a + d) | 0;
    d = ((d << left) | (d >>> (32 - left))) ^ a;
    c = (c + b) | 0;
    b = ((b << right) | (b >>> (32 - right))) ^ c;
    if (round % 4 === 2) {
      const s = (round + 2) / 4;
      a = (a + schedule[s % 5]) | 0;
      b = (b + schedule[(s + 1) % 5]) | 0;
      c = (c + schedule[(s + 2) % 5]) | 0;
      d = (d + schedule[(s + 3) % 5] + s) | 0;
    }
  }
  x[0] = a;
  x[1] = b;
  x[2] = c;
  x[3] = d;
}

const x = new Uint32Array(4); // one for all: millions of them would be garbage

// n words of a column of an op's stream, Uint32Array; `drawn` has room for them.
function words(key, number, column, n, draw = 0, drawn = room(n)) {
  const rows = Math.ceil(n / 4);
  for (let row = 0; row < rows; row++) {
    x[0] = draw * 2 ** 24 + row;
    x[1] = column;
    x[2] = number;
    x[3] = ENCRYPT;
    threefry(key, x);
    for (let i = 0; i < 4; i++) drawn[i * rows + row] = x[i];
  }
  return drawn.length === n ? drawn : drawn.subarray(0, n);
}

const room = (n) => new Uint32Array(4 * Math.ceil(n / 4));

const bits = (key, number, column, n) =>
  words(key, number, column, n).map((word) => word >>> 31);

// How many bits decide between slots of equal keys.
function tieBits(n, b) {
  let t = 0;
  while (((n * (n - 1)) / 2) * 2 ** 20 > 2 ** (33 - b + t)) {
    t = t === 0 ? 16 : t === 16 ? 32 : t + 32;
  }
  return t;
}

// Place i takes what was at place permutation[i]: Uint32Array [n].
export function permutation(key, number, column, n, into = room(n)) {
  const b = 32 - Math.clz32(n - 1);
  const mask = 2 ** b - 1; // of the position, in the lower b bits
  const packed = words(key, number, column, n, 0, into);
  for (let i = 0; i < n; i++) packed[i] = (packed[i] & ~mask) | i;
  packed.sort();
  breakTies(packed, b, key, number, column);
  for (let i = 0; i < n; i++) packed[i] &= mask;
  return packed;
}

// Orders the slots of each run of equal keys by further bits at the slot.
function breakTies(packed, b, key, number, column) {
  const n = packed.length;
  let ties; // of each slot, drawn when the first run is met
  for (let start = 0, end; start < n; start = end) {
    end = start + 1;
    while (end < n && packed[start] >>> b === packed[end] >>> b) end++;
    if (end === start + 1) continue;
    ties ??= tieWords(key, number, column, n, tieBits(n, b));
    const slots = Array.from({ length: end - start }, (_, i) => start + i);
    slots.sort((i, j) => {
      const draw = ties.find((words) => words[i] !== words[j]);
      return draw ? draw[i] - draw[j] : i - j;
    });
    packed.set(slots.map((slot) => packed[slot]), start);
  }
}

function tieWords(key, number, column, n, count) {
  if (count !== 16) {
    const draws = Array.from({ length: count / 32 }, (_, d) => 1 + d);
    return draws.map((draw) => words(key, number, column, n, draw));
  }
  const half = Math.ceil(n / 2);
  const both = words(key, number, column, half, 1);
  return [Uint32Array.from({ length: n }, (_, i) =>
    i < half ? both[i] >>> 16 : both[i - half] & 0xffff)];
}

// Blocks of M x M pixels in row-major order, in each positions, then channels.
function toBlocks(pixels, width, block, move) {
  const moved = new Uint8Array(pixels.length);
  const row = 3 * block;
  const across = width / block;
  for (let at = 0; at < pixels.length / row; at++) {
    const n = Math.floor(at / block); // rows of blocks, one after another
    const [y, x] = [Math.floor(n / across) * block + (at % block), n % across];
    move(moved, at * row, (y * across + x) * row, row);
  }
  return moved;
}

const split = (pixels, width, block) =>
  toBlocks(pixels, width, block, (moved, inBlocks, inImage, row) =>
    moved.set(pixels.subarray(inImage, inImage + row), inBlocks));

const join = (blocks, width, block) =>
  toBlocks(blocks, width, block, (moved, inBlocks, inImage, row) =>
    moved.set(blocks.subarray(inBlocks, inBlocks + row), inImage));

// Each op takes blocks {values, size, channels}, `size` pixels in each, and
// gives their values anew.
const OPS = {
  BlockScramble(op, key, number, { values, size, channels }, grid) {
    const length = size * channels;
    const order = blockOrder(op, key, number, grid);
    const out = new Uint8Array(values.length);
    order.forEach((from, to) =>
      out.set(values.subarray(from * length, (from + 1) * length), to * length));
    return out;
  },

  PixelShuffle(op, key, number, { values, size, channels }) {
    const out = new Uint8Array(values.length);
    const units = op.unit === "channel" ? channels : 1;
    const moved = op.unit === "value" ? size * channels : size; // by a permutation
    const together = op.unit === "pixel" ? channels : 1;
    const into = room(moved);
    for (let start = 0, n = 0; start < values.length; n++) {
      for (let u = 0; u < units; u++) {
        const perm = permutation(key, number, n * units + u, moved, into);
        const step = units * together;
        for (let i = 0; i < moved; i++) {
          for (let c = u; c < u + together; c++) {
            out[start + i * step + c] = values[start + perm[i] * step + c];
          }
        }
      }
      start += size * channels;
    }
    return out;
  },

  NegativePositive(op, key, number, { values, size, channels }, grid, top) {
    const length = size * channels;
    const count = op.unit === "value" ? length : 1; // or the whole block
    const out = new Uint8Array(values.length);
    for (let n = 0; n * length < values.length; n++) {
      const negated = bits(key, number, n, count);
      for (let i = 0; i < length; i++) {
        const value = values[n * length + i];
        out[n * length + i] = negated[i % count] ? top - value : value;
      }
    }
    return out;
  },

  RotateFlip(op, key, number, { values, size, channels }) {
    const side = Math.sqrt(size);
    const out = new Uint8Array(values.length);
    for (let n = 0; n * size * channels < values.length; n++) {
      const move = words(key, number, n, 1)[0] >>> 29;
      for (let i = 0; i < size; i++) {
        let [y, x] = [Math.floor(i / side), i % side];
        for (let turn = 0; turn < move % 4; turn++) [y, x] = [x, side - 1 - y];
        if (move >= 4) x = side - 1 - x;
        const from = (n * size + y * side + x) * channels;
        out.set(values.subarray(from, from + channels), (n * size + i) * channels);
      }
    }
    return out;
  },

  ColourShuffle(op, key, number, { values, size, channels }) {
    const out = new Uint8Array(values.length);
    const together = op.unit === "pixel" ? 1 : size; // pixels of a permutation
    let perm;
    for (let i = 0; i < values.length / channels; i++) {
      if (i % together === 0) {
        perm = permutation(key, number, i / together, channels);
      }
      for (let c = 0; c < channels; c++) {
        out[i * channels + c] = values[i * channels + perm[c]];
      }
    }
    return out;
  },
};

// Which block lies at each place after a scramble of the image's or a band's.
function blockOrder(op, key, number, [rows, columns]) {
  const height = op.height || rows;
  if (rows % height) {
    throw new Error(
      `the scheme scrambles bands of ${height} rows of blocks, which do not`
      + ` divide its ${rows} rows; cut it.`);
  }
  const count = height * columns;
  const order = new Uint32Array(rows * columns);
  for (let start = 0, band = 0; start < order.length; start += count, band++) {
    permutation(key, number, band, count).forEach((from, to) => {
      order[start + to] = start + from;
    });
  }
  return order;
}

// Pixels of whole blocks, encrypted; `ops` of findScheme.
export function encrypt(ops, key, pixels, width, block) {
  const size = block * block;
  const grid = [pixels.length / 3 / width / block, width / block];
  const seen = {};
  const run = (op, values, channels, top) => {
    seen[op.kind] = (seen[op.kind] ?? -1) + 1;
    const number = 256 * KINDS[op.kind] + seen[op.kind];
    const blocks = { values, size, channels };
    return OPS[op.kind](op, key, number, blocks, grid, top);
  };

  let values = split(pixels, width, block);
  for (const op of ops) {
    if (op.kind !== "NibbleSplit") {
      values = run(op, values, 3, 255);
      continue;
    }
    // Of each pixel the upper halves of its channels, then the lower ones.
    let halves = new Uint8Array(2 * values.length);
    values.forEach((value, i) => {
      const at = i + 3 * Math.floor(i / 3);
      halves[at] = value >> 4;
      halves[at + 3] = value & 15;
    });
    for (const inner of op.ops) halves = run(inner, halves, 6, 15);
    values = values.map((_, i) => {
      const at = i + 3 * Math.floor(i / 3);
      return (halves[at] << 4) | halves[at + 3];
    });
  }
  return join(values, width, block);
}

// Which block lies at each place of the ciphertext, Uint32Array [rows * columns].
export function orderOfBlocks(ops, key, rows, columns) {
  let order = Uint32Array.from({ length: rows * columns }, (_, i) => i);
  ops.filter((op) => op.kind === "BlockScramble").forEach((op, place) => {
    const number = 256 * KINDS.BlockScramble + place;
    const moved = blockOrder(op, key, number, [rows, columns]);
    order = moved.map((from) => order[from]);
  });
  return order;
}
