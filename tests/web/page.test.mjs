// Parts of the page that need no browser: links, GIFs, completing words. GIF=FILE node --test tests/web/ writes a film there.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { encodeFilm } from "../../web/page/gif.js";
import { readLink, seedOf, writeLink } from "../../web/page/link.js";
import { Grammar } from "../../web/model/grammar.js";
import { nearestByTable } from "../../web/model/captions.js";
import { Vocabulary } from "../../web/model/vocabulary.js";

test("a link holds model, caption, seed, image and the other caption", () => {
  const state = { model: "mnist", caption: "a & b = <c>?", seed: 9223372036854775799n, image: 3, other: "a # b" };
  assert.deepEqual(readLink(writeLink(state)), { ...state, seed: "9223372036854775799" });
  assert.deepEqual(readLink("#seed=-1&image=9&caption="), { model: undefined, caption: "", image: undefined, other: undefined });
  assert.deepEqual([seedOf(" 7 "), seedOf("9223372036854775800"), seedOf("1e3"), seedOf("")], [7n, null, null, null]);
});

test("words are completed from what the model knows", () => {
  const vocabulary = new Vocabulary(["<pad>", "UNK", "the", "there", "then", "digit", "left", "right"], "test");
  assert.deepEqual(vocabulary.beginningWith("the"), ["there", "then"]);
  assert.deepEqual(["lft", "rigth", "dgiit", "zzz"].map((word) => vocabulary.nearest(word)), ["left", "right", "digit", ""]);
  const digits = new Vocabulary(["<pad>", "0", "1", "2", "3", "the", "at"], "test");
  assert.deepEqual(["three", "teh", "a", "cat"].map((word) => digits.nearest(word)), ["3", "the", "", ""]);
  assert.equal(vocabulary.parse("the UNK <pad>").filter(({ id }) => id === null).length, 1);
  assert.deepEqual(vocabulary.idsOf(vocabulary.parse("the zzz")), [2, 1]);
  const strict = new Vocabulary(["<pad>", "the"], "test");
  assert.equal(strict.idsOf(strict.parse("the zzz")), null);
  assert.equal(strict.idsOf(strict.parse("  ")), null);
});

test("the grammar says what may follow", () => {
  const grammar = new Grammar({ held_out: Array(12).fill(10) }, "test");
  assert.deepEqual(grammar.following("the digit 3 is at the".split(" ")), ["top", "bottom"]);
  assert.deepEqual(grammar.following(["the", "digit"]), [..."0123456789"]);
  assert.deepEqual(grammar.following(["left"]), []);
});

test("similar words are those whose rows point the same way", () => {
  const table = Float32Array.from([9, 9, 9, 9, 1, 0, 0, 0, 0, 1, 0, 0, 2, 0.1, 0, 0]);
  const weights = {};
  for (const name of ["forward_lstm", "backward_lstm"]) Object.assign(weights, { [`caption_encoder.${name}.table`]: table, [`caption_encoder.${name}.bias`]: new Float32Array(4) });
  assert.deepEqual(nearestByTable(weights, 1, 2), [3, 2]);
});

test("a film in grey and colour becomes a GIF", () => {
  for (const C of [1, 3]) {
    const T = 3, H = 5, W = 7, canvases = Uint8Array.from({ length: T * H * W * C }, (_, i) => (i * 37) % 256);
    const film = { canvases, boxes: Float32Array.from([1, 1, 4, 4, -3, 2, 20, 4, 0, 0, 7, 5]) };
    const bytes = encodeFilm([film, film], { width: W, height: H, channels: C }, true, 120);
    assert.equal(String.fromCharCode(...bytes.subarray(0, 6)), "GIF89a");
    assert.equal(bytes.at(-1), 0x3b);
    if (process.env.GIF) writeFileSync(`${process.env.GIF}-${C}.gif`, bytes);
  }
});
