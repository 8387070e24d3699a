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
