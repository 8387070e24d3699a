// Bundles the packages into ../page/vendor, with their licences.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const out = "../page/vendor";
const licences = {
  "fast-png": "LICENSE", fflate: "LICENSE", iobuffer: "LICENSE",
  "@jsquash/jpeg": "LICENSE",
};
const codec = "node_modules/@jsquash/jpeg/codec";

mkdirSync(out, { recursive: true });
await build({
  entryPoints: ["png.js", "jpeg.js"], outdir: out, bundle: true, minify: true,
  format: "esm", target: "es2022", legalComments: "none",
  external: ["module"],
});
const wasm = "mozjpeg_dec.wasm"; // read at run time, beside the bundle
writeFileSync(`${out}/${wasm}`, readFileSync(`${codec}/dec/${wasm}`));

const texts = Object.entries(licences).map(([name, file]) => {
  const folder = `node_modules/${name}`;
  const { version } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  return `${name} ${version}\n\n${readFileSync(`${folder}/${file}`, "utf8")}`;
});
texts.push(
  "MozJPEG, compiled to WebAssembly in @jsquash/jpeg: this software is based in\n"
  + "part on the work of the Independent JPEG Group.\n\n"
  + readFileSync(`${codec}/LICENSE.codec.md`, "utf8"));
writeFileSync(`${out}/LICENSES.txt`, texts.join(`\n${"-".repeat(72)}\n\n`));
