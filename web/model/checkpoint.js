// Checkpoints of the project: read as Python's `text2image.load` reads them, and refused where it refuses them.

import { Grammar } from "./grammar.js";
import { KINDS, OF_INFERENCE, REALS, SWITCHES } from "./kinds.js";
import { Problem, oneLine } from "./problem.js";
import { isBlock, numbers, read } from "./safetensors.js";
import { digestOf } from "./sha256.js";
import { Vocabulary } from "./vocabulary.js";

const KEY = "text2image", VERSION = 2;
const TORCH = { F32: "torch.float32", F16: "torch.float16" };

/**
 * A checkpoint: {kind, config, vocabulary, grammar, weights: {name: Float32Array}, stored, parameters}. `name` stands in messages.
 * Throws Problem where the file is damaged, of a newer version, of no kind that this page runs, or none of this project.
 */
export async function load(buffer, name) {
  const { metadata, tensors } = read(buffer, name);
  if (!Object.hasOwn(metadata, KEY)) throw new Problem(`${name} is no checkpoint of this project: its metadata has no entry '${KEY}'`);
  const described = ofThisVersion(parsedMetadata(metadata[KEY], name), name);
  const kind = described.kind;
  if (!Object.hasOwn(KINDS, kind)) {
    throw new Problem(`${name} is a model of kind '${oneLine(kind, 40)}', which this page cannot run; it runs ${Object.keys(KINDS).join(", ")}`);
  }
  const config = checkedConfig(KINDS[kind], described.config, name);
  const vocabulary = new Vocabulary(described.vocabulary, name);
  const grammar = described.grammar === null ? null : new Grammar(described.grammar, name);
  checkTensors(tensors, KINDS[kind].tensors(config, vocabulary.words.length), described.stored, name);
  await checkDigest(tensors, described, name);
  const weights = {};
  for (const [key, tensor] of tensors) {
    weights[key] = numbers(tensor);
    if (!allFinite(weights[key])) throw new Problem(`${name}: '${oneLine(key)}' holds values that are not finite numbers; fetch it again`);
  }
  const parameters = Object.values(weights).reduce((sum, values) => sum + values.length, 0);
  return { kind, config, vocabulary, grammar, weights, stored: described.stored ?? null, parameters };
}

function parsedMetadata(text, name) {
  let described;
  try {
    described = JSON.parse(text);
  } catch { /* said below */ }
  const version = isBlock(described) ? described.version : undefined;
  if (!Number.isInteger(version) || version < 1) throw new Problem(`${name}: its metadata is damaged; fetch it again`);
  if (version > VERSION) throw new Problem(`${name} is of version ${version}, newer than this page reads (${VERSION}); get a newer page`);
  return described;
}

/** Version 1 knew one kind of model, and had its switches among the sizes. */
function ofThisVersion(described, name) {
  if (described.version > 1) return described;
  if (!isBlock(described.config)) throw new Problem(`${name}: its configuration is damaged; fetch it again`);
  const config = { ...described.config, switches: {} };
  for (const name of SWITCHES) {
    config.switches[name] = config[name];
    delete config[name];
  }
  return { ...described, kind: "align_draw", config };
}

function checkedConfig(kind, config, name) {
  const wrong = (key, why) => new Problem(`${name}: its configuration is damaged ('${oneLine(key, 40)}' ${why}); fetch it again`);
  if (!isBlock(config)) throw wrong("config", "is no block");
  const known = new Set([...Object.keys(kind.numbers), ...Object.keys(REALS), ...Object.keys(kind.choices), "switches"]);
  for (const key of Object.keys(config)) if (!known.has(key)) throw wrong(key, "is unknown");
  for (const [key, [least, most]] of [...Object.entries(kind.numbers), ...Object.entries(REALS)]) {
    const value = config[key], whole = Object.hasOwn(kind.numbers, key);
    if (!(whole ? Number.isInteger(value) : Number.isFinite(value)) || value < least || value > most) throw wrong(key, "is out of range");
  }
  for (const [key, choices] of Object.entries(kind.choices)) {
    if (!choices.includes(config[key])) throw wrong(key, `is none of ${choices.join(", ")}`);
  }
  const switches = config.switches ?? {};
  if (!isBlock(switches)) throw wrong("switches", "is no block");
  for (const [key, value] of Object.entries(switches)) {
    if (!SWITCHES.includes(key)) throw wrong(key, "is unknown");
    if (!["preset", "paper", "released"].includes(value)) throw wrong(key, "is none of preset, paper, released");
  }
  return config;
}

function checkTensors(tensors, wanted, stored, name) {
  const left = (key) => isBlock(stored) && stored.without === "inference" && OF_INFERENCE.test(key);
  for (const key of new Set([...Object.keys(wanted), ...tensors.keys()])) {
    if (left(key) && !tensors.has(key)) continue;
    if (String(tensors.get(key)?.shape) !== String(wanted[key] ?? null)) {
      throw new Problem(`${name}: weights and configuration differ at '${oneLine(key, 60)}'; the file was made by other code or altered`);
    }
    if (tensors.get(key).dtype === "F16" && !isBlock(stored)) {
      throw new Problem(`${name}: '${oneLine(key, 60)}' is of type F16; a checkpoint holds float32`);
    }
  }
}

/** SHA-256 over names, types, shapes and bytes, in the order of the names. Version 1 had none. */
async function checkDigest(tensors, described, name) {
  if (described.version < 2) return;
  const text = new TextEncoder();
  const pieces = [...tensors.keys()].sort().flatMap((key) => {
    const { dtype, shape, bytes } = tensors.get(key);
    return [text.encode(`["${key}", "${TORCH[dtype]}", [${shape.join(", ")}]]`), bytes];
  });
  if (await digestOf(pieces) !== described.digest) {
    throw new Problem(`${name}: its weights are not those that were saved (their digest differs); fetch it again`);
  }
}

function allFinite(values) {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return false;
  return true;
}
