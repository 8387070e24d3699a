export { default as decode, init } from "@jsquash/jpeg/decode.js";
