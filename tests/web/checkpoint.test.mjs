// Files that are no checkpoint, or not whole: one clear line each, and nothing else. GOLDEN=FOLDER node --test tests/web/

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createHash } from "node:crypto";
import { load } from "../../web/model/checkpoint.js";
import { Problem } from "../../web/model/problem.js";
import { SHA256, digestOf, hex } from "../../web/model/sha256.js";

const whole = new Uint8Array(readFileSync(join(process.env.GOLDEN, "one_filter_one_glimpse.safetensors")));
const copy = (bytes) => bytes.slice().buffer;
const text = (bytes) => new TextDecoder("latin1").decode(bytes);

/** The file with its header changed by a function from JSON to JSON; the sizes are put right. */
function edited(change, tensors = (bytes) => bytes) {
  const size = Number(new DataView(whole.buffer).getBigUint64(0, true)), header = JSON.parse(text(whole.subarray(8, 8 + size)));
  const described = JSON.parse(header.__metadata__.text2image);
  const out = change(header, described) ?? header;
  if (out === header && header.__metadata__?.text2image) header.__metadata__.text2image = JSON.stringify(described);
  const written = new TextEncoder().encode(JSON.stringify(out)), rest = tensors(whole.slice(8 + size));
  const bytes = new Uint8Array(8 + written.length + rest.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(written.length), true);
  bytes.set(written, 8);
  bytes.set(rest, 8 + written.length);
  return bytes.buffer;
}

async function refuses(buffer, pattern) {
  await assert.rejects(load(buffer, "x.safetensors"), (error) => {
    assert.ok(error instanceof Problem, `${error.stack}`);
    assert.match(error.message, pattern);
    assert.ok(error.message.includes("x.safetensors") && error.message.length < 400 && !error.message.includes("\n"), error.message);
    return true;
  });
}

test("a checkpoint is read with all that it says", async () => {
  const { kind, config, vocabulary, grammar, weights } = await load(copy(whole), "x");
  assert.deepEqual([kind, config.glimpses, grammar, weights["align.v"].length], ["align_draw", 1, null, config.align_units]);
  assert.equal(vocabulary.words[0], "<pad>");
});

test("files of other things", async () => {
  await refuses(new ArrayBuffer(0), /no readable safetensors file: it has 0 bytes/);
  await refuses(copy(new TextEncoder().encode("<!doctype html><p>404 not found, and more of it")), /a file of another sort/);
  await refuses(copy(Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 123, 125)), /no checkpoint of this project/);
  await refuses(copy(Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 91, 93)), /header is no JSON/);
  await refuses(edited((header) => { header.__metadata__ = { format: "pt" }; }), /no entry 'text2image'/);
  await refuses(edited((_, described) => { described.kind = "fc_vae"; }), /kind 'fc_vae', which this page cannot run; it runs align_draw, noalign, draw/);
  await refuses(edited((_, described) => { described.kind = "toString"; }), /cannot run/);
  await refuses(edited((_, described) => { described.version = 3; }), /of version 3, newer/);
  await refuses(edited((_, described) => { described.version = true; }), /metadata is damaged/);
});

test("files that were cut short, or altered", async () => {
  for (const share of [0.0001, 0.01, 0.5, 0.999]) await refuses(copy(whole.subarray(0, Math.ceil(whole.length * share))), /cut short|bytes/);
  const longer = new Uint8Array(whole.length + 1);
  longer.set(whole);
  await refuses(longer.buffer, /more than its header says/);
  const flipped = whole.slice();
  flipped[flipped.length - 4] ^= 1;
  await refuses(flipped.buffer, /digest differs/);
  const infinite = whole.slice();
  infinite.set([0, 0, 0x80, 0x7f], infinite.length - 4);
  await refuses(infinite.buffer, /digest differs|not finite/);
  await refuses(edited((_, described) => { described.version = 1; described.config = null; }), /configuration is damaged/);
});

test("configurations and tensors that do not fit", async () => {
  for (const [change, pattern] of [
    [(c) => { c.glimpses = 1e9; }, /'glimpses' is out of range/], [(c) => { c.height = 2.5; }, /'height'/], [(c) => { delete c.latent; }, /'latent'/],
    [(c) => { c.preset = "both"; }, /'preset' is none of paper, released/], [(c) => { c.more = 1; }, /'more' is unknown/], [(c) => { c.switches = { other: "paper" }; }, /'other' is unknown/],
    [(c) => { c.latent += 1; }, /weights and configuration differ/], [(c) => { c.canvas_init = "0"; }, /'canvas_init'/],
  ]) await refuses(edited((_, described) => { change(described.config); }), pattern);
  await refuses(edited((_, described) => { described.vocabulary = ["a"]; }), /vocabulary is damaged/);
  await refuses(edited((_, described) => { described.vocabulary[2] = described.vocabulary[3]; }), /holds a word twice/);
  await refuses(edited((_, described) => { described.grammar = { held_out: [1] }; }), /grammar is damaged/);
  await refuses(edited((header) => { header["align.v"].dtype = "I32"; }), /of type I32/);
  await refuses(edited((header) => { header["align.v"].shape = [-1]; }), /nothing clear of 'align.v'/);
  await refuses(edited((header) => { header["align.v"].data_offsets[0] += 4; }), /lies where it cannot/);
  await refuses(edited((header) => { delete header.c0; }), /lies where it cannot/);
  await refuses(edited((header) => { header["align.v"] = null; }), /nothing clear|lies where/);
});

test("whatever lies in a file, the page reads it or says one line", async () => {
  let state = 1;
  const random = (below) => (state = Math.imul(state, 1664525) + 1013904223 >>> 0) % below;
  for (let round = 0; round < 150; round++) {
    const bytes = whole.slice(0, random(4) ? whole.length : random(whole.length));
    for (let i = random(6) + 1; i && bytes.length; i--) bytes[random(random(2) ? Math.min(4000, bytes.length) : bytes.length)] = random(256);
    await load(bytes.buffer, "x").catch((error) => assert.ok(error instanceof Problem, error.stack));
  }
});

test("SHA-256 without WebCrypto is SHA-256", async () => {
  for (const size of [0, 1, 55, 56, 63, 64, 65, 1000]) {
    const bytes = Uint8Array.from({ length: size }, (_, i) => i * 7);
    const wanted = createHash("sha256").update(bytes).digest("hex");
    assert.equal(hex(new SHA256().update(bytes).digest()), wanted);
    for (const subtle of [null, crypto.subtle]) assert.equal(await digestOf([bytes.subarray(0, size >> 1), bytes.subarray(size >> 1)], subtle), wanted);
  }
});
