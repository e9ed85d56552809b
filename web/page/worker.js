// The model, off the page's own thread: opens checkpoints, draws films, writes GIFs.
//
// {id, act, ...} comes in; {id, ...} goes out, once or more, the last with `done` or `error`.

import { nearestByTable } from "../model/captions.js";
import { load } from "../model/checkpoint.js";
import { KINDS } from "../model/kinds.js";
import { Problem } from "../model/problem.js";
import { sigmoid } from "../model/products.js";
import { noiseOf } from "../model/random.js";
import { Model, draw } from "../model/recurrence.js";
import { encodeFilm } from "./gif.js";

const models = new Map();
const newest = new Map(); // of each lane the last drawing that was asked for; older ones stop
const PATIENCE = 25;      // milliseconds of work before messages are looked at

const acts = {
  /** Read a checkpoint, from bytes or from an address of this site. */
  async open(message, say) {
    const buffer = message.buffer ?? await fetched(message.url, message.name, say);
    const checkpoint = await load(buffer, message.name);
    const drawable = checkpoint.config.channels === 1 || checkpoint.config.channels === 3;
    if (!drawable) throw new Problem(`${message.name} draws images of ${checkpoint.config.channels} channels; this page shows 1 or 3`);
    models.set(message.key, new Model(checkpoint));
    const { kind, config, vocabulary, grammar, stored, parameters } = checkpoint;
    return { kind, reads: KINDS[kind].reads, config, words: vocabulary.words, heldOut: grammar?.heldOut ?? null, stored, parameters };
  },

  /** Draw a film from each seed, the first one first. */
  async draw({ id, key, ids, seeds, lane }, say) {
    newest.set(lane, id);
    const model = models.get(key), { glimpses: T, latent: D } = model.checkpoint.config, reader = model.read(ids);
    for (const batch of [seeds.slice(0, 1), seeds.slice(1)].filter((part) => part.length)) {
      const noise = batch.map((seed) => noiseOf(T, D, BigInt(seed)));
      const films = batch.map(() => emptyFilm(model.checkpoint.config, reader.words));
      let begun = performance.now();
      for (const glimpse of draw(model, reader, batch.length, (t, b, d) => noise[b][t * D + d])) {
        record(films, glimpse, model.checkpoint.config);
        if (performance.now() - begun < PATIENCE) continue;
        await new Promise((resume) => setTimeout(resume));
        if (newest.get(lane) !== id) return { stopped: true };
        begun = performance.now();
      }
      say({ films, first: batch[0] === seeds[0] ? 0 : 1 }, films.flatMap((film) => [film.canvases.buffer, film.boxes.buffer, film.alphas.buffer]));
    }
    return {};
  },

  /** Words that the model treats most like a word. */
  async similar({ key, word, count }) {
    return { ids: nearestByTable(models.get(key).checkpoint.weights, word, count) };
  },

  /** Films side by side as a GIF. */
  async gif({ films, size, box, delay }) {
    return { bytes: encodeFilm(films, size, box, delay) };
  },
};

function emptyFilm({ glimpses: T, height: H, width: W, channels: C }, words) {
  return { canvases: new Uint8Array(T * H * W * C), boxes: new Float32Array(4 * T), alphas: new Float32Array(T * words) };
}

/** A glimpse into each film: shades (H, W, C) in place of (H, C, W) before the sigmoid. */
function record(films, { t, canvases, boxes, alpha, B }, { channels: C, width: W, height: H }) {
  films.forEach((film, b) => {
    const canvas = canvases[b], words = alpha.length / B;
    for (let h = 0, k = 0; h < H; h++) {
      for (let c = 0; c < C; c++) {
        for (let w = 0; w < W; w++) film.canvases[((t * H + h) * W + w) * C + c] = Math.round(255 * sigmoid(canvas[k++]));
      }
    }
    film.boxes.set(boxes[b], 4 * t);
    for (let l = 0; l < words; l++) film.alphas[t * words + l] = alpha[l * B + b];
  });
}

async function fetched(url, name, say) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new Problem(`${name} cannot be fetched: is the server still there?`);
  }
  if (!response.ok) throw new Problem(`${name} cannot be fetched: the server answers ${response.status}`);
  const total = Number(response.headers.get("content-length")), parts = [];
  let size = 0;
  try {
    for (const reader = response.body.getReader();;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      size += value.length;
      if (total) say({ progress: size / total });
    }
  } catch {
    throw new Problem(`${name} broke off after ${(size / 1e6).toFixed(1)} MB: choose it again`);
  }
  return new Blob(parts).arrayBuffer();
}

addEventListener("message", async ({ data }) => {
  const say = (content, transfer = []) => postMessage({ id: data.id, ...content }, transfer);
  try {
    say({ done: true, ...await acts[data.act](data, say) });
  } catch (error) {
    const line = error instanceof Problem ? error.message : error instanceof RangeError
      ? "this model takes more memory than the browser gives" : `the page has an error of its own (${error?.message ?? error})`;
    say({ error: line });
  }
});
postMessage({ ready: true });
