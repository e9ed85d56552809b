// What a model reads of a caption: the states of its words (paper, section 3.1), and at each glimpse one vector s_t of them.
//
// A reader has
//   words                     how many the attention goes over; 0: it has none
//   querySize                 outputs of the linear map of h_gen that asks for words
//   addTo(gates, query, alpha, B)   adds W s_t to the gates of LSTM^gen (4U, B); query (A, B); fills alpha (words, B)
// where W are the columns of LSTM^gen's input weights that s_t meets. All images of a batch have the one caption.

import { released } from "./kinds.js";
import { ADD, columnsOf, lstm, product, tanh } from "./products.js";

/** h_lang (L, 2M): the forward and the backward state at each word id. */
export function wordStates(weights, config, ids) {
  const M = weights["caption_encoder.h0"].length, L = ids.length;
  const states = new Float64Array(L * 2 * M);
  const run = (name, order, column) => {
    const part = (of) => weights[`caption_encoder.${name}.${of}`];
    const h = Float64Array.from(weights["caption_encoder.h0"]), cell = new Float64Array(M), gates = new Float64Array(4 * M);
    const table = part("table"), bias = part("bias");
    for (const i of order) {
      for (let k = 0; k < 4 * M; k++) gates[k] = table[ids[i] * 4 * M + k] + bias[k];
      product(part("weight_hidden"), ADD, h, 4 * M, M, 1, gates);
      lstm(gates, cell, h, M, 1);
      states.set(h, i * 2 * M + column);
    }
  };
  const forward = ids.map((_, i) => i);
  run("forward_lstm", forward, 0);
  // The released code reverses the batch where it means the words: with one caption in all of it, they are read forward.
  run("backward_lstm", released(config, "backward_words") ? forward : forward.toReversed(), M);
  return states;
}

/** Equation 2: s_t = sum_k alpha_k h_lang_k, alpha = softmax_k(v^T tanh(U h_lang_k + W h_gen + b)); section 3.2. */
export class Align {
  constructor({ weights, config }, ids) {
    const S = 2 * config.language_units, { align_units: A, generate_units: U, latent: D } = config;
    const states = wordStates(weights, config, ids), L = this.words = ids.length;
    this.querySize = A;
    this.v = Float64Array.from(weights["align.v"]);
    this.keys = new Float64Array(L * A);   // U h_lang
    // W h_lang, so that a glimpse adds L numbers a gate and not S.
    this.values = new Float32Array(4 * U * L);
    const input = columnsOf(weights["generate.weight_input"], 4 * U, D + S, D, D + S);
    const key = new Float64Array(A), value = new Float64Array(4 * U);
    for (let l = 0; l < L; l++) {
      const state = states.subarray(l * S, (l + 1) * S);
      product(weights["align.language"], new Float32Array(A), state, A, S, 1, key);
      product(input, new Float32Array(4 * U), state, 4 * U, S, 1, value);
      this.keys.set(key, l * A);
      for (let r = 0; r < 4 * U; r++) this.values[r * L + l] = value[r];
    }
  }

  addTo(gates, query, alpha, B) {
    const { keys, v, words: L, querySize: A } = this;
    alpha.fill(0);
    for (let l = 0; l < L; l++) {
      for (let a = 0; a < A; a++) {
        const key = keys[l * A + a], weight = v[a];
        for (let b = 0; b < B; b++) alpha[l * B + b] += weight * tanh(key + query[a * B + b]);
      }
    }
    for (let b = 0; b < B; b++) softmax(alpha, b, L, B);
    product(this.values, ADD, alpha, gates.length / B, L, B, gates);
  }
}

function softmax(scores, b, L, B) {
  let most = -Infinity, sum = 0;
  for (let l = 0; l < L; l++) most = Math.max(most, scores[l * B + b]);
  for (let l = 0; l < L; l++) sum += scores[l * B + b] = Math.exp(scores[l * B + b] - most);
  for (let l = 0; l < L; l++) scores[l * B + b] /= sum;
}

/** s_t is the same vector at every glimpse; it may have no numbers, where a model reads no caption. */
export class OneVector {
  words = 0;
  querySize = 0;

  constructor({ weights, config }, vector) {
    const { generate_units: U, latent: D } = config, S = vector.length;
    const input = columnsOf(weights["generate.weight_input"], 4 * U, D + S, D, D + S);
    this.gates = new Float64Array(4 * U);
    product(input, new Float32Array(4 * U), vector, 4 * U, S, 1, this.gates);
  }

  addTo(gates, _query, _alpha, B) {
    for (let r = 0; r < this.gates.length; r++) for (let b = 0; b < B; b++) gates[r * B + b] += this.gates[r];
  }
}

/** The forward state at the last word and the backward state at the first: what either has when it has read the caption. */
function wholeCaption({ weights, config }, ids) {
  const states = wordStates(weights, config, ids), M = config.language_units, last = (ids.length - 1) * 2 * M;
  const vector = states.slice(last, last + 2 * M);
  if (!released(config, "backward_words")) vector.set(states.subarray(M, 2 * M), M); // the released one reads forward twice
  return vector;
}

/** By kind, what reads the word ids of a caption for a checkpoint. */
export const READERS = {
  align_draw: (checkpoint, ids) => new Align(checkpoint, ids),
  noalign: (checkpoint, ids) => new OneVector(checkpoint, wholeCaption(checkpoint, ids)),
  draw: (checkpoint) => new OneVector(checkpoint, new Float64Array(0)),
};

/** Ids of the words whose rows of the encoder's tables point most nearly where those of `word` do; paddings left out. */
export function nearestByTable(weights, word, count) {
  const tables = ["forward_lstm", "backward_lstm"].map((name) => weights[`caption_encoder.${name}.table`]);
  const K = tables[0] ? tables[0].length / weights["caption_encoder.forward_lstm.bias"].length : 0;
  const dot = (table, i, j) => {
    const width = table.length / K;
    let sum = 0;
    for (let k = 0; k < width; k++) sum += table[i * width + k] * table[j * width + k];
    return sum;
  };
  const both = (i, j) => tables.reduce((sum, table) => sum + dot(table, i, j), 0);
  const scores = Array.from({ length: K }, (_, j) => j ? both(word, j) / Math.sqrt(both(j, j) + 1e-12) : -Infinity);
  return scores.map((score, j) => [score, j]).filter(([, j]) => j && j !== word).sort(([a], [b]) => b - a).slice(0, count).map(([, j]) => j);
}
