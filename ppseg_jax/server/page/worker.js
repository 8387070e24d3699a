// What takes time, beside the page: decoding, padding, encrypting, reading the
// answer. Keys come with each question and are overwritten after it.

import { labelsOfLogits, labelsOfPng } from "./answers.js";
import { encrypt, findScheme } from "./encryption.js";
import {
  labelsToPng, pad, readHeader, readPicture, shrink, toPng,
} from "./pictures.js";

const loadWasm = async () => {
  const url = new URL("vendor/mozjpeg_dec.wasm", import.meta.url);
  return (await fetch(url)).arrayBuffer();
};

const QUESTIONS = {
  async encrypt({ file, key, model, shrinks }) {
    const bytes = new Uint8Array(file);
    const units = unitsOf(model);
    const size = sizeSent(readHeader(bytes), units, model, shrinks);
    let plain = await readPicture(bytes, loadWasm);
    if (size.width < plain.width) plain = shrink(plain, size.width, size.height);
    const { pixels, width, height } = pad(plain, ...units);
    const { ops } = findScheme(model.scheme);
    const cipher = {
      pixels: encrypt(ops, key, pixels, width, model.block), width, height,
    };
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

// What width and height are multiples of when they are sent.
function unitsOf({ block, patch, hidden }) {
  const unit = leastCommon(block, patch);
  return [unit, leastCommon(unit, block * (hidden?.bands || 1))];
}

function leastCommon(a, b) {
  let multiple = a;
  while (multiple % b) multiple += a;
  return multiple;
}

// The picture's size when it is sent; an Error where it may not be shrunk to it.
function sizeSent({ width, height }, [across, down], { largest }, shrinks) {
  const [high, wide] = [largest[0] - (largest[0] % down),
                        largest[1] - (largest[1] % across)];
  if (height <= high && width <= wide) return { width, height };
  if (!shrinks) {
    throw new Error(
      `has ${width}x${height} pixels, and this server takes ${wide}x${high} at`
      + " most; make it smaller, or let this page shrink it.");
  }
  const factor = Math.min(high / height, wide / width);
  const smaller = (side) => Math.max(1, Math.floor(factor * side));
  return { width: smaller(width), height: smaller(height) };
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
  } finally {
    rest.key.fill(0);
  }
};
