// The glimpses of alignDRAW without an image: equations 1 to 4 of the paper, z drawn from the prior. The twin of
// text2image.models.reference, for a batch of images of one caption.
//
// Letter code: B batch, T glimpses, D latent, U units of LSTM^gen, A of align, C channels, H W image, N write window.

import { READERS } from "./captions.js";
import { Writer, boxOf } from "./filter_banks.js";
import { beside, columnsOf, joined, lstm, padded, product, tanh } from "./products.js";

/** A checkpoint made ready to draw: the linear maps of the recurrence, those of h_gen as one. */
export class Model {
  constructor(checkpoint) {
    this.checkpoint = checkpoint;
    const { kind, config, weights: w } = checkpoint, { latent: D, generate_units: U } = config;
    this.queries = kind === "align_draw";
    const maps = ["write", "patch", ...(this.queries ? ["align.generate"] : []), "prior"];
    this.projection = joined(maps.map((name) => w[`${name}.weight`]));
    this.projectionBias = joined(maps.map((name) => w[`${name}.bias`] ?? new Float32Array(2 * D)));
    const S = w["generate.weight_input"].length / (4 * U) - D;
    this.gates = beside(4 * U, [columnsOf(w["generate.weight_input"], 4 * U, D + S, 0, D), D], [w["generate.weight_hidden"], U]);
  }

  /** What the model reads of a caption's word ids, for any number of images. */
  read(ids) {
    return READERS[this.checkpoint.kind](this.checkpoint, ids);
  }
}

/**
 * Draws `images` images from noise(t, b, d), numbers of N(0, I). A generator: it yields after each glimpse
 * {t, canvases: of each image (H, C, W) before the sigmoid, boxes: of each image [left, top, right, bottom] in pixels,
 *  windows: as decodeWindow, outputs: (5, B) before that, alpha: (L, B), B}
 * in arrays that the next glimpse overwrites.
 */
export function* draw(model, reader, images, noise) {
  const { config, weights: w } = model.checkpoint, { latent: D, generate_units: U, write_window: N, glimpses: T } = config;
  const B = padded(images), patchSize = N * N * config.channels, A = reader.querySize;
  const x = new Float64Array((D + U) * B), h = x.subarray(D * B), z = x.subarray(0, D * B);   // [z_t, h_gen]
  const cell = new Float64Array(U * B), gates = new Float64Array(4 * U * B), alpha = new Float64Array(reader.words * B);
  const rows = 5 + patchSize + A + 2 * D, projected = new Float64Array(rows * B);
  const part = (from, count) => projected.subarray(from * B, (from + count) * B);
  const outputs = part(0, 5), patches = part(5, patchSize), query = part(5 + patchSize, A), prior = part(5 + patchSize + A, 2 * D);
  const writer = new Writer(config), canvases = Array.from({ length: images }, () => Float64Array.from(w.c0));
  for (let u = 0; u < U; u++) h.fill(w.h0_generate[u], u * B, (u + 1) * B);
  product(model.projection, model.projectionBias, h, rows, U, B, projected);
  for (let t = 0; t < T; t++) {
    for (let d = 0; d < D; d++) {
      for (let b = 0; b < B; b++) {                                     // P(Z_1) = N(0, I), then equation 1
        const mean = t ? tanh(prior[d * B + b]) : 0, sigma = t ? Math.exp(tanh(prior[(D + d) * B + b])) : 1;
        z[d * B + b] = mean + sigma * (b < images ? noise(t, b, d) : 0);
      }
    }
    product(model.gates, w["generate.bias"], x, 4 * U, D + U, B, gates);
    reader.addTo(gates, query, alpha, B);                               // equation 2
    lstm(gates, cell, h, U, B);                                         // equation 3
    product(model.projection, model.projectionBias, h, rows, U, B, projected);
    const windows = canvases.map((canvas, b) => writer.write(canvas, outputs, patches, b, B)); // equation 4
    yield { t, canvases, windows, boxes: windows.map((window) => boxOf(window, N, writer.geometry)), outputs, alpha, B };
  }
}
