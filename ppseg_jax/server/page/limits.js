// What this page sends, and how large, whatever the server says that it wants.

import { findScheme } from "./encryption.js";

const SMALLEST_BLOCK = 8; // smaller ones show more, and one of a pixel shows it

// Why nothing is sent to a server of this model; undefined where it may be.
export function refusalOf({ scheme, block, patch }) {
  if (!findScheme(scheme)) {
    return `This server wants pictures under the scheme '${scheme}', which this page`
      + " does not know or which hides too little; nothing is sent.";
  }
  if (!(Number.isInteger(block) && block >= SMALLEST_BLOCK)) {
    return `The server reads '${scheme}' in blocks of ${block}, which may show what`
      + ` '${scheme}' in blocks of ${SMALLEST_BLOCK} hides; nothing is sent. If that`
      + " may be seen, use client segment and allow it with"
      + ` --at-most=${scheme} --smallest-block=${block}.`;
  }
  const fits = findScheme(scheme).hidden
    ? patch === block : block % patch === 0 || patch % block === 0;
  if (!(Number.isInteger(patch) && patch > 0 && fits)) {
    return `The server reads '${scheme}' in blocks of ${block} and patches of`
      + ` ${patch}, which do not fit each other; nothing is sent.`;
  }
  return undefined;
}

// What width and height are multiples of when they are sent, in pixels.
export const unitOf = ({ block, patch }) => Math.max(block, patch);

// The size, before it is padded, of a picture that is sent; an Error where it may
// not be shrunk to one.
export function sizeSent({ width, height }, model, shrinks) {
  const unit = unitOf(model);
  const [high, wide] = model.largest.map((most) => most - (most % unit));
  const [band, whole] = inBands(height, model);
  if (height <= high && width <= wide && height <= whole) return { width, height };
  const factor = Math.min(high / height, wide / width, whole / height);
  if (shrinks && factor > 0) {
    const smaller = (side) => Math.max(1, Math.floor(factor * side));
    const size = { width: smaller(width), height: smaller(height) };
    return sizeSent(size, model, shrinks); // the width may have decided
  }
  if (height <= high && width <= wide) {
    throw new Error(
      `has ${height} rows, and this server's scheme hides blocks within bands of`
      + ` ${band} rows; crop or shrink it to whole bands, or let this page shrink`
      + " it.");
  }
  throw new Error(
    `has ${width}x${height} pixels, and this server takes ${wide}x${high} at`
    + " most; make it smaller, or let this page shrink it.");
}

// [height of a band in pixels, the most of `height` that fills whole bands]. Bands
// are not filled up: copies of blocks would tell where these are in the one above.
function inBands(height, { scheme, block }) {
  const band = block * (findScheme(scheme).ops[0].height || 1);
  const rows = Math.ceil(height / block) * block; // when it is padded to blocks
  return [band, rows % band ? rows - (rows % band) : height];
}
