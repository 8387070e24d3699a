export { decode, encode } from "fast-png";
export { unzlibSync } from "fflate";
