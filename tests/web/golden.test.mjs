// The page's model against Python's: GOLDEN=FOLDER node --test tests/web/ (tests.web.golden writes the folder).

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { load } from "../../web/model/checkpoint.js";
import { Grammar } from "../../web/model/grammar.js";
import { noiseOf } from "../../web/model/random.js";
import { Model, draw } from "../../web/model/recurrence.js";
import { sigmoid } from "../../web/model/products.js";
import { Vocabulary } from "../../web/model/vocabulary.js";

const FOLDER = process.env.GOLDEN;
const bytes = (name) => { const found = readFileSync(join(FOLDER, name)); return found.buffer.slice(found.byteOffset, found.byteOffset + found.length); };
const json = (name) => JSON.parse(readFileSync(join(FOLDER, name), "utf8"));
const names = readdirSync(FOLDER).filter((name) => name.endsWith(".safetensors")).map((name) => name.replace(".safetensors", ""));
const most = (differences) => differences.reduce((a, b) => Math.max(a, b), 0);

for (const name of names) {
  test(`${name}: canvases, windows, boxes and alphas are Python's`, async () => {
    const { ids, drawn } = json(`${name}.json`);
    const model = new Model(await load(bytes(`${name}.safetensors`), name));
    const { channels: C, height: H, width: W } = model.checkpoint.config;
    const worst = { canvas: 0, image: 0, outputs: 0, boxes: 0, alpha: 0 };
    for (const [images, golden] of Object.entries(drawn)) {
      let glimpses = 0;
      for (const { t, canvases, boxes, outputs, alpha, B } of draw(model, model.read(ids), Number(images), (t, b, d) => golden.noise[t][b][d])) {
        const step = golden.steps[t];
        glimpses++;
        for (let b = 0; b < Number(images); b++) {
          const at = (c, h, w) => canvases[b][(h * C + c) * W + w];
          worst.canvas = Math.max(worst.canvas, most(step.canvas[b].flatMap((rows, c) => rows.flatMap((row, h) => row.map((value, w) => Math.abs(value - at(c, h, w)))))));
          worst.outputs = Math.max(worst.outputs, most(step.outputs[b].map((value, k) => Math.abs(value - outputs[k * B + b]))));
          worst.boxes = Math.max(worst.boxes, most(step.boxes[b].map((value, k) => Math.abs(value - boxes[b][k]) / Math.max(1, Math.abs(value)))));
          if (step.alpha) worst.alpha = Math.max(worst.alpha, most(step.alpha[b].map((value, l) => Math.abs(value - alpha[l * B + b]))));
          assert.equal(alpha.length > 0, Boolean(step.alpha));
          if (t === golden.steps.length - 1) {
            worst.image = Math.max(worst.image, most(golden.images[b].flatMap((rows, c) => rows.flatMap((row, h) => row.map((value, w) => Math.abs(value - sigmoid(at(c, h, w))))))));
          }
        }
        assert.equal(canvases[0].length, C * H * W);
      }
      assert.equal(glimpses, golden.steps.length);
    }
    console.log(name, JSON.stringify(worst));
    for (const [what, value] of Object.entries(worst)) assert.ok(value < 1e-5, `${what} differs by ${value}`);
  });
}

test("the noise of a seed is that of Python's sample", () => {
  for (const [key, golden] of Object.entries(json("text.json").noise)) {
    const [seed, glimpses, latent] = key.split(" ");
    const ours = noiseOf(Number(glimpses), Number(latent), BigInt(seed));
    assert.ok(most(golden.map((value, i) => Math.abs(value - ours[i]))) < 1e-6, key);
  }
});

test("a caption's words are Python's", () => {
  const { vocabulary, captions } = json("text.json");
  const known = new Vocabulary(vocabulary, "test");
  for (const [caption, words] of Object.entries(captions)) {
    const ours = known.parse(caption).map(({ id }) => id === null ? null : known.words[id]);
    assert.deepEqual(ours, words, caption);
  }
});

test("held-out captions are Python's", () => {
  const golden = json("text.json"), grammar = new Grammar(golden.grammar, "test");
  const withStatus = (...statuses) => golden["every caption"].filter((caption) => statuses.includes(grammar.statusOf(caption.split(" ")).status));
  assert.deepEqual(withStatus("never", "other words"), golden["held out"]);
  assert.deepEqual(withStatus("other words"), golden["held out, trained on in other words"]);
  assert.deepEqual(withStatus("outside"), []);
  assert.equal(grammar.statusOf("the digit 3 is on the left".split(" ")).status, "outside");
  for (const caption of grammar.heldOutCaptions(4)) assert.ok(golden["held out"].includes(caption));
});
