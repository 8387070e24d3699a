// What the server sends back, as class numbers of the picture's size.

import { orderOfBlocks } from "./encryption.js";
import { readLabels } from "./pictures.js";

// Labels of a palette PNG, without the padding; throws where they do not fit.
export function labelsOfPng(bytes, sent, { width, height }) {
  const answer = whole(() => readLabels(bytes));
  if (answer.width !== sent.width || answer.height !== sent.height) {
    throw new Error(misfit(answer.width, answer.height, sent));
  }
  return cut(answer, width, height);
}

// Labels of a hidden layout: logits of each block, in the order that was sent,
// put in place, enlarged as `assemble` in ppseg_jax/encryption/layout.py does.
export function labelsOfLogits(bytes, ops, key, block, sent, { width, height }) {
  const { shape, values } = whole(() => readNpy(bytes));
  const [rows, columns, classes] = shape;
  if (shape.length !== 3 || rows * block !== sent.height
      || columns * block !== sent.width) {
    throw new Error(misfit(columns * block, rows * block, sent));
  }
  const logits = new Float32Array(values.length);
  orderOfBlocks(ops, key, rows, columns).forEach((place, at) => {
    const one = values.subarray(at * classes, (at + 1) * classes);
    logits.set(one, place * classes);
  });
  return enlarged(logits, shape, block, width, height);
}

function whole(read) {
  try {
    return read();
  } catch {
    throw new Error("The server's answer is damaged, or no answer.");
  }
}

const misfit = (width, height, sent) =>
  `The server answered for ${width}x${height} pixels and was sent`
  + ` ${sent.width}x${sent.height}.`;

function cut({ labels, width: stride }, width, height) {
  const out = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    out.set(labels.subarray(y * stride, y * stride + width), y * width);
  }
  return { labels: out, width, height };
}

// Half-precision values in C order: {shape, values: Float32Array}.
export function readNpy(bytes) {
  const wide = bytes[6] > 1; // the version decides how the length is written
  const at = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = wide ? 12 : 10;
  const length = wide ? at.getUint32(8, true) : at.getUint16(8, true);
  const header = new TextDecoder("latin1")
    .decode(bytes.subarray(start, start + length));
  const shape = header.match(/'shape': \(([\d, ]*)\)/)?.[1];
  if (!shape || !header.includes("'<f2'") || header.includes("order': True")) {
    throw new Error("no half-precision values in C order");
  }
  const sizes = shape.split(",").filter((size) => size.trim()).map(Number);
  const values = new Float32Array(sizes.reduce((a, b) => a * b, 1));
  for (let i = 0; i < values.length; i++) {
    values[i] = half(at.getUint16(start + length + 2 * i, true));
  }
  return { shape: sizes, values };
}

function half(word) {
  const sign = word & 0x8000 ? -1 : 1;
  const exponent = (word >> 10) & 31;
  const fraction = word & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent
    ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024)
    : sign * 2 ** -14 * (fraction / 1024);
}

// The classes of logits [rows, columns, classes], enlarged bilinearly.
function enlarged(logits, [rows, columns, classes], block, width, height) {
  const between = (at, last) => { // two neighbours, and how near to the second
    const place = (at + 0.5) / block - 0.5;
    const low = Math.floor(place);
    const inside = (i) => Math.min(Math.max(i, 0), last);
    return [inside(low), inside(low + 1), place - low];
  };
  const labels = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const [top, bottom, down] = between(y, rows - 1);
    for (let x = 0; x < width; x++) {
      const [left, right, across] = between(x, columns - 1);
      let most = -Infinity;
      for (let c = 0; c < classes; c++) {
        const value = (row, column) => logits[(row * columns + column) * classes + c];
        const upper = value(top, left) * (1 - across) + value(top, right) * across;
        const lower =
          value(bottom, left) * (1 - across) + value(bottom, right) * across;
        const logit = upper * (1 - down) + lower * down;
        if (logit > most) {
          most = logit;
          labels[y * width + x] = c;
        }
      }
    }
  }
  return { labels, width, height };
}
