// The page's own code against what Python wrote into the folder PAGE_CASES:
// tests/server/test_page_code.py makes it and runs this.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";

const root = path.resolve(import.meta.dirname, "../..");
const page = path.join(root, "ppseg_jax/server/page");
const { encrypt, findScheme, permutation, threefry } =
  await import(`${page}/encryption.js`);
const {
  labelsToPng, padded, readHeader, readLabels, readPicture, shrink, toPng,
} = await import(`${page}/pictures.js`);
const { refusalOf, sizeSent } = await import(`${page}/limits.js`);
const { labelsOfLogits } = await import(`${page}/answers.js`);

const vectors = JSON.parse(
  readFileSync(path.join(root, "tests/encryption/vectors.json")));
const folder = process.env.PAGE_CASES;
const cases = JSON.parse(readFileSync(path.join(folder, "cases.json")));
const bytes = (file) => new Uint8Array(readFileSync(path.join(folder, file)));
const hex = (values) => Buffer.from(values).toString("hex");
const wasm = async () => readFileSync(`${page}/vendor/mozjpeg_dec.wasm`);

test("ciphertexts and permutations are the known answers", () => {
  const key = Uint32Array.from(vectors.key);
  const image = Uint8Array.from(Buffer.from(vectors.image, "hex"));
  const known = Object.keys(vectors.ciphertexts).filter(findScheme);
  assert.deepEqual(known.sort(), cases.schemes);
  for (const name of known) {
    const { ops } = findScheme(name);
    const cipher = encrypt(ops, key, image, vectors.shape[1], vectors.block);
    assert.equal(hex(cipher), vectors.ciphertexts[name], name);
  }
  assert.deepEqual([...permutation(key, 512, 3, 768)],
                   vectors.permutation_of_768_stream_512_column_3);
});

test("the keystream is Python's", () => {
  for (const [counter, key, expected] of cases.threefry) {
    const x = Uint32Array.from(counter);
    threefry(Uint32Array.from(key), x);
    assert.deepEqual([...x], expected);
  }
});

test("ties are broken as Python breaks them", () => {
  const key = Uint32Array.from(cases.key);
  for (const { n, column, order } of cases.permutations) {
    assert.deepEqual([...permutation(key, 512, column, n)], order);
  }
});

test("hidden layouts have the same bytes, and answers are put in place", () => {
  const key = Uint32Array.from(cases.key);
  for (const { scheme, block, width, height, plain, cipher, ...rest } of cases.hidden) {
    const { ops, hidden } = findScheme(scheme);
    assert.ok(hidden);
    assert.equal(hex(encrypt(ops, key, bytes(plain), width, block)),
                 hex(bytes(cipher)), scheme);
    const size = { width, height };
    const { labels } = labelsOfLogits(
      bytes(rest.logits), ops, key, block, size, size);
    assert.equal(hex(labels), hex(bytes(rest.labels)), scheme);
  }
});

test("schemes that a ciphertext alone breaks are not used", () => {
  const refused = Object.keys(vectors.ciphertexts).filter((n) => !findScheme(n));
  for (const name of [...refused, "plain_hidden", "le_bands2", "toString", ""]) {
    assert.equal(findScheme(name), undefined, name);
  }
  assert.ok(refused.includes("plain") && refused.includes("independent"));
});

test("pictures have the values that Python reads", async () => {
  for (const { file, width, height, pixels } of cases.pictures) {
    const header = readHeader(bytes(file));
    assert.deepEqual([header.width, header.height], [width, height], file);
    const picture = await readPicture(bytes(file), wasm);
    assert.deepEqual([picture.width, picture.height], [width, height], file);
    assert.equal(hex(picture.pixels), hex(bytes(pixels)), file);
  }
});

test("what Python refuses is refused in the same words", async () => {
  for (const { file, sentence } of cases.refused) {
    await assert.rejects(readPicture(bytes(file), wasm), ({ message }) => {
      assert.ok(sentence.startsWith(message.replace(/; mend.*/, "")),
                `${file}: ${message} | ${sentence}`);
      return true;
    });
  }
});

test("padding is Python's", () => {
  for (const { width, height, block, unit, pixels, whole, ...rest } of cases.padded) {
    const picture = { pixels: bytes(pixels), width, height };
    const result = padded(picture, block, unit);
    assert.deepEqual([result.height, result.width], whole);
    assert.equal(hex(result.pixels), hex(bytes(rest.padded)));
  }
});

const asked = { scheme: "blockwise", block: 8, patch: 16, largest: [64, 100] };

test("a server that would see more than this page shows is sent nothing", () => {
  assert.equal(refusalOf(asked), undefined);
  for (const patch of [4, 8, 24]) {
    assert.equal(refusalOf({ ...asked, patch }), undefined, patch);
  }
  assert.match(refusalOf({ ...asked, scheme: "plain" }), /'plain'/);
  for (const block of [1, 7, 8.5, "8", undefined]) {
    assert.match(refusalOf({ ...asked, block, patch: block }),
                 /nothing is sent.*--at-most=blockwise --smallest-block=/, block);
  }
  for (const patch of [0, -8, 3, 12, 1001, "16", undefined]) {
    assert.match(refusalOf({ ...asked, patch }), /do not fit each other/, patch);
  }
  const hidden = { ...asked, scheme: "blockwise_bands2" };
  assert.match(refusalOf(hidden), /do not fit each other/);
  assert.equal(refusalOf({ ...hidden, patch: 8 }), undefined);
});

test("the size that is sent is the server's to limit when it is padded", () => {
  const size = (width, height, shrinks, more) =>
    Object.values(sizeSent({ width, height }, { ...asked, ...more }, shrinks));
  assert.deepEqual(size(96, 64, false), [96, 64]);
  assert.throws(() => size(97, 64, false), /97x64 pixels.* 96x64 at most/);
  assert.deepEqual(size(192, 64, true), [96, 32]);
  for (const shrinks of [false, true]) {
    assert.throws(() => size(5, 5, shrinks, { patch: 2 ** 40 }), /0x0 at most/);
  }
});

test("bands of a hidden layout are not filled up with copies", () => {
  const bands = { scheme: "blockwise_bands3", block: 8, patch: 8, largest: [96, 96] };
  const size = (width, height, shrinks) =>
    Object.values(sizeSent({ width, height }, bands, shrinks));
  assert.deepEqual(size(20, 48, false), [20, 48]);
  assert.deepEqual(size(20, 41, false), [20, 41]); // 6 rows of blocks, padded
  assert.throws(() => size(20, 40, false),
                /has 40 rows.* bands of 24 rows; crop or shrink it/);
  assert.deepEqual(size(20, 40, true), [12, 24]);
  assert.deepEqual(size(192, 160, true), [86, 72]); // 96x80 is not whole
  assert.throws(() => size(20, 16, true), /bands of 24 rows/);
});

test("shrunk pictures are means of areas", () => {
  for (const { pixels, width, height, means } of cases.shrunk) {
    const large = { pixels: bytes(pixels), width: 51, height: 37 };
    const small = shrink(large, width, height);
    assert.deepEqual([small.width, small.height], [width, height]);
    assert.equal(small.pixels.length, means.length);
    small.pixels.forEach((value, i) =>
      assert.ok(Math.abs(value - means[i]) < 0.502, `${value} ${means[i]}`));
  }
});

test("written PNG files read back, palettes of every depth too", async () => {
  const picture = { pixels: Uint8Array.from({ length: 45 }, (_, i) => 5 * i),
                    width: 5, height: 3 };
  assert.deepEqual(await readPicture(toPng(picture)), picture);
  const labels = { labels: Uint8Array.from({ length: 15 }, (_, i) => i),
                   width: 5, height: 3 };
  assert.deepEqual(readLabels(labelsToPng(labels, [[1, 2, 3]])), labels);
  for (const { file, width, height, labels } of cases.palettes) {
    const found = readLabels(bytes(file));
    assert.deepEqual(found, { labels: Uint8Array.from(labels), width, height });
  }
});
