// Safetensors files: 8 bytes that say how long the header is, the header in JSON, the tensors' bytes one after another.

import { Problem, oneLine } from "./problem.js";

const LARGEST_HEADER = 1 << 24; // bytes, as in Python
const ITEM = { F32: 4, F16: 2 }; // bytes of a number

/**
 * A file's metadata and tensors: {metadata: {name: text}, tensors: Map of name to {dtype, shape, bytes}}.
 * Throws Problem where it is none, or cut short; `name` stands in the message.
 */
export function read(buffer, name) {
  const wrong = (why) => new Problem(`${name} is no readable safetensors file: ${why}`);
  if (buffer.byteLength < 8) throw wrong(`it has ${buffer.byteLength} bytes`);
  const size = new DataView(buffer).getBigUint64(0, true);
  if (size > BigInt(LARGEST_HEADER)) throw new Problem(`${name} is no model but a file of another sort; this page takes a model.safetensors of this project`);
  const start = 8 + Number(size);
  if (start > buffer.byteLength) throw wrong("it ends within its header; it may have been cut short, so fetch it again");
  const header = parsed(buffer, start, wrong);
  const { __metadata__: metadata = {}, ...entries } = header;
  if (!isBlock(metadata)) throw wrong("its metadata is no block of texts");
  const tensors = new Map();
  let end = 0;
  for (const [key, entry] of Object.entries(entries).sort(byOffset)) {
    const { dtype, shape, data_offsets: offsets } = isBlock(entry) ? entry : {};
    const whole = (list) => Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && n >= 0);
    if (!whole(shape) || !whole(offsets) || offsets.length !== 2) throw wrong(`its header says nothing clear of '${oneLine(key)}'`);
    if (!Object.hasOwn(ITEM, dtype)) throw new Problem(`${name}: '${oneLine(key)}' is of type ${oneLine(dtype, 20)}; a checkpoint holds float32`);
    const count = shape.reduce((product, n) => product * n, 1);
    if (offsets[0] !== end || offsets[1] - offsets[0] !== count * ITEM[dtype]) throw wrong(`'${oneLine(key)}' lies where it cannot`);
    end = offsets[1];
    if (start + end > buffer.byteLength) {
      throw wrong(`it should hold ${megabytes(start + entriesEnd(entries))} and holds ${megabytes(buffer.byteLength)}; `
                  + "it was cut short: fetch it again");
    }
    tensors.set(key, { dtype, shape, bytes: new Uint8Array(buffer, start + offsets[0], end - offsets[0]) });
  }
  if (start + end !== buffer.byteLength) throw wrong("it holds more than its header says");
  return { metadata, tensors };
}

/** A tensor's numbers as float32. */
export function numbers({ dtype, bytes }) {
  if (dtype === "F16") return fromHalf(bytes);
  const copied = bytes.byteOffset % 4 ? bytes.slice() : bytes; // a typed array begins at a multiple of its items
  return new Float32Array(copied.buffer, copied.byteOffset, copied.byteLength / 4);
}

/** IEEE half precision: a sign, 5 bits of exponent, 10 of fraction. Infinities and NaN become NaN: no weight is one. */
function fromHalf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const scale = Float64Array.from({ length: 32 }, (_, exponent) => exponent === 31 ? NaN : 2 ** (Math.max(exponent, 1) - 25));
  const out = new Float32Array(bytes.byteLength / 2);
  for (let i = 0; i < out.length; i++) {
    const bits = view.getUint16(2 * i, true), exponent = bits >> 10 & 31, fraction = bits & 1023;
    const value = (exponent ? 1024 + fraction : fraction) * scale[exponent];
    out[i] = bits & 0x8000 ? -value : value;
  }
  return out;
}

function parsed(buffer, end, wrong) {
  try {
    const header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, end - 8)));
    if (isBlock(header)) return header;
  } catch { /* said below */ }
  throw wrong("its header is no JSON; it may have been damaged, so fetch it again");
}

/** Whether a value of JSON is a block of keys. */
export const isBlock = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

const byOffset = ([, a], [, b]) => (a?.data_offsets?.[0] ?? 0) - (b?.data_offsets?.[0] ?? 0) || (a?.data_offsets?.[1] ?? 0) - (b?.data_offsets?.[1] ?? 0);
const entriesEnd = (entries) => Math.max(...Object.values(entries).map((entry) => Number(entry?.data_offsets?.[1]) || 0));
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
