// Picture files as ppseg_jax/pictures.py reads them: the very values of 8-bit
// grey and RGB pictures, upright, padded to whole blocks. PNG and JPEG files are
// decoded here and not by the browser, since some browsers change what they give
// back of a canvas.
//
// A picture is {pixels: Uint8Array [height, width, 3], width, height}.

import { decode as decodePng, encode, unzlibSync } from "./vendor/png.js";
import { decode as decodeJpeg, init as initJpeg } from "./vendor/jpeg.js";

const TAKEN =
  ", and only 8-bit grey and RGB pictures are taken, whose values stay as they"
  + " are; convert it first.";
const DAMAGED = "is not a readable picture; mend or remove it.";
const OTHERS = [ // what its first bytes say
  ["GIF8", 0, "GIF"], ["BM", 0, "BMP"], ["II*\0", 0, "TIFF"],
  ["MM\0*", 0, "TIFF"], ["WEBP", 8, "WebP"], ["ftypavif", 4, "AVIF"],
  ["ftyphei", 4, "HEIF"],
];
const PNG = "\x89PNG\r\n\x1a\n";
const COLOURS = { 3: "has a colour palette", 4: "has transparency",
                  6: "has transparency" };

// A character a byte: to a browser's TextDecoder, latin1 is another encoding.
const text = (bytes) =>
  Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
const view = (bytes) =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

// What a file says of its picture before it is decoded.
//
// {format, width, height, orientation}, width and height upright. Throws an
// Error whose message goes on from the file's name, where it is not taken.
export function readHeader(bytes) {
  const start = text(bytes.subarray(0, 16));
  let header;
  try {
    if (start.startsWith(PNG)) header = pngHeader(bytes);
    else if (start.startsWith("\xff\xd8\xff")) header = jpegHeader(bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // read beyond the end
    throw new Error(DAMAGED);
  }
  if (!header) {
    const found = OTHERS.find(([magic, at]) => start.startsWith(magic, at));
    if (!found) throw new Error(DAMAGED);
    throw new Error(
      `is a ${found[2]} file, and this page reads PNG and JPEG; save it as PNG.`);
  }
  if (header.refusal) throw new Error(header.refusal + TAKEN);
  if (!header.width || !header.height) throw new Error(DAMAGED);
  const { format, width, height, orientation } = header;
  return orientation < 5
    ? { format, width, height, orientation }
    : { format, width: height, height: width, orientation };
}

// The picture of a file whose header was taken; `loadWasm` gives the bytes of
// vendor/mozjpeg_dec.wasm, for JPEG.
export async function readPicture(bytes, loadWasm) {
  const { format, orientation } = readHeader(bytes);
  if (format === "JPEG") await jpegDecoder(loadWasm);
  let picture;
  try {
    picture = format === "PNG"
      ? pngPixels(bytes) : await jpegPixels(bytes);
  } catch {
    throw new Error(DAMAGED);
  }
  return upright(picture, orientation);
}

function* pngChunks(bytes) {
  const at = view(bytes);
  for (let start = 8; ; ) {
    const length = at.getUint32(start);
    const kind = text(bytes.subarray(start + 4, start + 8));
    const end = start + 12 + length;
    if (end > bytes.length) throw new RangeError();
    const data = bytes.subarray(start + 8, end - 4);
    yield { kind, data, whole: bytes.subarray(start, end) };
    if (kind === "IEND") return;
    start = end;
  }
}

function pngHeader(bytes) {
  const chunks = [...pngChunks(bytes)];
  const all = (...kinds) => chunks.filter(({ kind }) => kinds.includes(kind));
  const [{ data }] = chunks;
  const [depth, colour] = data.subarray(8);
  const [frames] = all("acTL");
  let refusal;
  if (frames && view(frames.data).getUint32(0) > 1) {
    refusal = "holds several pictures";
  } else if (depth === 1 && colour === 0) {
    refusal = "has one bit a pixel";
  } else if (depth < 8) {
    refusal = colour === 3 ? COLOURS[3] : "has fewer than 8 bits a value";
  } else if (depth > 8) {
    refusal = "has more than 8 bits a value";
  } else {
    refusal = COLOURS[colour] ?? (all("tRNS").length ? COLOURS[6] : undefined);
  }
  const texts = Object.fromEntries(all("tEXt", "zTXt", "iTXt").map(pngText));
  const profile = texts["Raw profile type exif"]; // by ImageMagick, in hex
  const exif = all("eXIf")[0]?.data
    ?? (profile && fromHex(profile.split("\n").slice(3).join("")));
  return {
    format: "PNG", refusal,
    width: view(data).getUint32(0), height: view(data).getUint32(4),
    orientation: orientationOf(exif, texts["XML:com.adobe.xmp"]),
  };
}

// [keyword, text] of a text chunk; "" for a text that cannot be read.
function pngText({ kind, data }) {
  const end = data.indexOf(0);
  const keyword = text(data.subarray(0, end));
  let rest = data.subarray(end + 1);
  let packed = kind === "zTXt";
  if (kind === "iTXt") {
    packed = rest[0] === 1;
    rest = rest.subarray(rest.indexOf(0, rest.indexOf(0, 2) + 1) + 1);
  } else if (packed) {
    rest = rest.subarray(1);
  }
  try {
    return [keyword, text(packed ? unzlibSync(rest) : rest)];
  } catch {
    return [keyword, ""];
  }
}

const fromHex = (digits) =>
  Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));

function jpegHeader(bytes) {
  const at = view(bytes);
  const header = { format: "JPEG" };
  let exif, xmp;
  for (let start = 2, marker; ; ) {
    while (at.getUint8(start) !== 0xff) start++;
    while ((marker = at.getUint8(start)) === 0xff) start++;
    if (marker === 0xda || marker === 0xd9) break; // scan, end
    if (marker === 0 || marker === 1 || (marker >= 0xd0 && marker < 0xd8)) continue;
    const end = start + 1 + at.getUint16(start + 1);
    const data = bytes.subarray(start + 3, end);
    if (marker >= 0xc0 && marker < 0xd0 && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      const [depth, h, h0, w, w0, components] = data;
      header.height = 256 * h + h0;
      header.width = 256 * w + w0;
      if (depth !== 8) header.refusal = "has more than 8 bits a value";
      else if (components === 4) header.refusal = "is in CMYK";
    } else if (marker === 0xe1) {
      const [name] = text(data.subarray(0, 32)).split("\0");
      if (name === "Exif") exif ??= data.subarray(6);
      else if (name === "http://ns.adobe.com/xap/1.0/") xmp ??= text(data);
    }
    start = end;
  }
  header.orientation = orientationOf(exif, xmp);
  return header;
}

// How the picture is to be turned, 1 to 8: EXIF, and where it says nothing, XMP.
function orientationOf(exif, xmp) {
  const found = (exif && exifOrientation(exif))
    ?? Number(xmp?.match(/tiff:Orientation(?:="|>)([0-9])/)?.[1] ?? 1);
  return found >= 1 && found <= 8 ? found : 1;
}

function exifOrientation(exif) {
  if (text(exif.subarray(0, 6)) === "Exif\0\0") exif = exif.subarray(6);
  try {
    const at = view(exif);
    const little = exif[0] === 0x49;
    const first = at.getUint32(4, little);
    const count = at.getUint16(first, little);
    for (let i = 0; i < count; i++) {
      const entry = first + 2 + 12 * i;
      if (at.getUint16(entry, little) !== 0x112) continue;
      return at.getUint16(entry + 2, little) === 4
        ? at.getUint32(entry + 8, little) : at.getUint16(entry + 8, little);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // damaged: as if not there
  }
  return undefined;
}

function pngPixels(bytes) {
  // Only what pixels are made of: a damaged remark is no reason to stop.
  const parts = [...pngChunks(bytes)].filter(({ kind }) =>
    ["IHDR", "IDAT", "IEND"].includes(kind));
  const file = concatenated([bytes.subarray(0, 8), ...parts.map((p) => p.whole)]);
  const { data, width, height, channels } = decodePng(file, { checkCrc: true });
  if (channels === 3) return { pixels: new Uint8Array(data), width, height };
  const pixels = new Uint8Array(3 * data.length);
  for (let i = 0; i < pixels.length; i++) pixels[i] = data[Math.floor(i / 3)];
  return { pixels, width, height };
}

function concatenated(parts) {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

let jpegReady;
let jpegWarnings = [];

async function jpegDecoder(loadWasm) {
  jpegReady ??= loadWasm().then(WebAssembly.compile).then((module) =>
    initJpeg(module, { printErr: (line) => jpegWarnings.push(line) }));
  try {
    await jpegReady;
  } catch {
    jpegReady = undefined;
    throw new Error("waits for the decoder of JPEG, which could not be loaded; try"
                    + " again.");
  }
}

async function jpegPixels(bytes) {
  jpegWarnings = [];
  const { data, width, height } = await decodeJpeg(bytes);
  if (jpegWarnings.some((line) => line.startsWith("Premature end"))) {
    throw new Error("truncated");
  }
  const pixels = new Uint8Array(3 * width * height);
  for (let i = 0, at = 0; at < pixels.length; i++) {
    if (i % 4 !== 3) pixels[at++] = data[i]; // without alpha
  }
  return { pixels, width, height };
}

// A copy whose pixel (y, x) is the picture's at source(y, x).
function remapped({ pixels, width }, newWidth, newHeight, source) {
  const out = new Uint8Array(3 * newWidth * newHeight);
  for (let y = 0, to = 0; y < newHeight; y++) {
    for (let x = 0; x < newWidth; x++) {
      const [fromY, fromX] = source(y, x);
      const from = 3 * (fromY * width + fromX);
      out[to++] = pixels[from];
      out[to++] = pixels[from + 1];
      out[to++] = pixels[from + 2];
    }
  }
  return { pixels: out, width: newWidth, height: newHeight };
}

function upright(picture, orientation) {
  if (orientation === 1) return picture;
  const { width, height } = picture;
  const [right, bottom] = [width - 1, height - 1];
  const source = {
    2: (y, x) => [y, right - x], 3: (y, x) => [bottom - y, right - x],
    4: (y, x) => [bottom - y, x], 5: (y, x) => [x, y],
    6: (y, x) => [bottom - x, y], 7: (y, x) => [bottom - x, right - y],
    8: (y, x) => [x, right - y],
  }[orientation];
  return orientation < 5
    ? remapped(picture, width, height, source)
    : remapped(picture, height, width, source);
}

// A smaller picture, each value the mean of the area that it stands for.
export function shrink({ pixels, width, height }, newWidth, newHeight) {
  const columns = overlaps(width, newWidth);
  const rows = overlaps(height, newHeight);
  const line = new Float32Array(3 * newWidth + 3);
  const sums = new Float32Array(line.length * (newHeight + 1));
  for (let y = 0, from = 0; y < height; y++) {
    line.fill(0);
    for (let x = 0; x < width; x++) {
      const { to, first, second } = columns[x];
      for (let c = 3 * to; c < 3 * to + 3; c++, from++) {
        line[c] += first * pixels[from];
        line[c + 3] += second * pixels[from];
      }
    }
    const { to, first, second } = rows[y];
    for (let i = 0, at = to * line.length; i < line.length; i++, at++) {
      sums[at] += first * line[i];
      sums[at + line.length] += second * line[i];
    }
  }
  const out = new Uint8Array(3 * newWidth * newHeight);
  for (let i = 0; i < out.length; i++) {
    out[i] = Math.round(sums[i + 3 * Math.floor(i / 3 / newWidth)]);
  }
  return { pixels: out, width: newWidth, height: newHeight };
}

// Of each of `length` places, that of `shorter` in which it begins, and what it
// adds to the mean there and at the next.
function overlaps(length, shorter) {
  const scale = length / shorter;
  return Array.from({ length }, (_, at) => {
    const to = Math.min(Math.floor(at / scale), shorter - 1);
    const beyond = Math.max(at + 1 - (to + 1) * scale, 0);
    return { to, first: (1 - beyond) / scale, second: beyond / scale };
  });
}

// Height and width made multiples of `unit`: each row below the picture is the one
// `unit` rows above it, and columns alike, for the reason that `pad` in
// ppseg_jax/pictures.py gives.
export function pad(picture, unit) {
  const sources = (size) => {
    const whole = Math.ceil(size / unit) * unit;
    const last = Math.min(unit, size);
    return Array.from({ length: whole }, (_, at) =>
      (at < size ? at : size - last + ((at - size) % last)));
  };
  const rows = sources(picture.height);
  const columns = sources(picture.width);
  return remapped(picture, columns.length, rows.length,
                  (y, x) => [rows[y], columns[x]]);
}

// Padded to whole blocks, and then to a unit of several by whole blocks alone:
// pixels repeated at other places of the block grid would show, by the forms of
// their blocks together, what no one block does.
export const padded = (picture, block, unit) => pad(pad(picture, block), unit);

export const toPng = ({ pixels, width, height }) =>
  encode({ data: pixels, width, height, channels: 3, depth: 8 });

// A palette PNG of class numbers, Uint8Array [height, width].
export function labelsToPng({ labels, width, height }, palette) {
  return encode({ data: labels, width, height, channels: 1, depth: 8, palette });
}

// Class numbers of a palette PNG, Uint8Array [height, width].
export function readLabels(bytes) {
  const { data, width, height, depth, channels } = decodePng(bytes);
  if (channels !== 1 || depth > 8) throw new Error("no labels");
  if (depth === 8) return { labels: new Uint8Array(data), width, height };
  const labels = new Uint8Array(width * height);
  const stride = Math.ceil((width * depth) / 8);
  for (let i = 0; i < labels.length; i++) {
    const bit = (i % width) * depth;
    const byte = data[Math.floor(i / width) * stride + (bit >> 3)];
    labels[i] = (byte >> (8 - depth - (bit & 7))) & (2 ** depth - 1);
  }
  return { labels, width, height };
}
