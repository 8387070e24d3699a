// What takes time, beside the page: decoding, padding, encrypting, reading the
// answer. Keys come with each question and are overwritten after it.

import { labelsOfLogits, labelsOfPng } from "./answers.js";
import { encrypt, findScheme } from "./encryption.js";
import { sizeSent, unitOf } from "./limits.js";
import {
  labelsToPng, padded, readHeader, readPicture, shrink, toPng,
} from "./pictures.js";

const loadWasm = async () => {
  const url = new URL("vendor/mozjpeg_dec.wasm", import.meta.url);
  return (await fetch(url)).arrayBuffer();
};

const QUESTIONS = {
  async encrypt({ file, key, model, shrinks }) {
    const bytes = new Uint8Array(file);
    const size = sizeSent(readHeader(bytes), model, shrinks);
    let plain = await readPicture(bytes, loadWasm);
    if (size.width < plain.width || size.height < plain.height) {
      plain = shrink(plain, size.width, size.height);
    }
    const { pixels, width, height } = padded(plain, model.block, unitOf(model));
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
