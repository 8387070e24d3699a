// What takes time, beside the page: decoding, padding, encrypting, reading the
// answer. Keys come with each question and are not kept.

import { labelsOfLogits, labelsOfPng } from "./answers.js";
import { encrypt, findScheme } from "./encryption.js";
import { labelsToPng, pad, readHeader, readPicture, toPng } from "./pictures.js";

const loadWasm = async () => {
  const url = new URL("vendor/mozjpeg_dec.wasm", import.meta.url);
  return (await fetch(url)).arrayBuffer();
};

const QUESTIONS = {
  async encrypt({ file, key, model }) {
    const bytes = new Uint8Array(file);
    const units = unitsOf(model);
    checkSize(readHeader(bytes), units, model);
    const plain = await readPicture(bytes, loadWasm);
    const padded = pad(plain, ...units);
    const { width, height } = padded;
    const { ops } = findScheme(model.scheme);
    const pixels = encrypt(ops, key, padded.pixels, width, model.block);
    const cipher = { pixels, width, height };
    return { plain: toRgba(plain), cipher: toRgba(cipher), png: toPng(cipher) };
  },

  read({ answer, key, model, plain, sent }) {
    const bytes = new Uint8Array(answer);
    const { ops, hidden } = findScheme(model.scheme);
    const found = hidden
      ? labelsOfLogits(bytes, ops, key, model.block, sent, plain)
      : labelsOfPng(bytes, sent, plain);
    const colours = paletteOf(model);
    const counts = new Uint32Array(256);
    const pixels = new Uint8ClampedArray(4 * found.labels.length);
    found.labels.forEach((label, i) => {
      counts[label]++;
      pixels.set(colours[label], 4 * i);
      pixels[4 * i + 3] = 255;
    });
    return {
      colours: { ...found, labels: undefined, pixels },
      counts: [...counts],
      png: labelsToPng(found, colours),
    };
  },
};

// What height and width are multiples of when they are sent.
function unitsOf({ block, patch, hidden }) {
  const unit = leastCommon(block, patch);
  return [leastCommon(unit, block * (hidden?.bands || 1)), unit];
}

function leastCommon(a, b) {
  let multiple = a;
  while (multiple % b) multiple += a;
  return multiple;
}

function checkSize({ width, height }, [down, across], { largest: [high, wide] }) {
  const fits = (size, unit, most) => Math.ceil(size / unit) * unit <= most;
  if (fits(height, down, high) && fits(width, across, wide)) return;
  throw new Error(
    `has ${width}x${height} pixels, and this server takes ${wide}x${high} at`
    + " most; make it smaller.");
}

// 256 colours [red, green, blue]; grey for numbers that are no class.
function paletteOf({ classes }) {
  const palette = Array.from({ length: 256 }, () => [128, 128, 128]);
  for (const { id, colour } of classes) palette[id] = colour;
  return palette;
}

function toRgba({ pixels, width, height }) {
  const rgba = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let i = 0, to = 0; i < pixels.length; to++) {
    rgba[to++] = pixels[i++];
    rgba[to++] = pixels[i++];
    rgba[to++] = pixels[i++];
  }
  return { pixels: rgba, width, height };
}

onmessage = async ({ data: { number, question, ...rest } }) => {
  try {
    postMessage({ number, reply: await QUESTIONS[question](rest) });
  } catch (error) {
    postMessage({ number, error: error.message });
  }
};
