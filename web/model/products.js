// Matrix products and LSTMs on typed arrays. Weights are float32; what a glimpse computes with is float64.
//
// A batch lies beside each feature: x[feature * B + image]. B is 1 or a multiple of 4, so that the innermost loops are written
// out and their sums stay in registers.

/** The batch that so many images are computed in. */
export const padded = (images) => images === 1 ? 1 : Math.ceil(images / 4) * 4;

/**
 * out (rows, B) = W (rows, columns) x (columns, B), plus bias (rows), or plus what is in `out` where bias is `ADD`.
 * W is a Float32Array, x and out are Float64Arrays.
 */
export function product(W, bias, x, rows, columns, B, out) {
  if (B === 1) return ofOne(W, bias, x, rows, columns, out);
  for (let b = 0; b < B; b += 4) ofFour(W, bias, x, rows, columns, B, b, out);
}
export const ADD = null;

function ofOne(W, bias, x, rows, columns, out) {
  let r = 0;
  for (; r + 4 <= rows; r += 4) {
    let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    let i0 = r * columns, i1 = i0 + columns, i2 = i1 + columns, i3 = i2 + columns;
    for (let k = 0; k < columns; k++) {
      const value = x[k];
      s0 += W[i0++] * value;
      s1 += W[i1++] * value;
      s2 += W[i2++] * value;
      s3 += W[i3++] * value;
    }
    out[r] = s0 + start(bias, out, r, r);
    out[r + 1] = s1 + start(bias, out, r + 1, r + 1);
    out[r + 2] = s2 + start(bias, out, r + 2, r + 2);
    out[r + 3] = s3 + start(bias, out, r + 3, r + 3);
  }
  for (; r < rows; r++) {
    let sum = start(bias, out, r, r);
    for (let k = 0, i = r * columns; k < columns; k++) sum += W[i++] * x[k];
    out[r] = sum;
  }
}

/** Four images, from image b on, and two rows at a time. */
function ofFour(W, bias, x, rows, columns, B, b, out) {
  let r = 0;
  for (; r + 2 <= rows; r += 2) {
    let s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
    let i = r * columns, j = i + columns;
    for (let k = 0, at = b; k < columns; k++, at += B) {
      const v = W[i++], w = W[j++], x0 = x[at], x1 = x[at + 1], x2 = x[at + 2], x3 = x[at + 3];
      s0 += v * x0; s1 += v * x1; s2 += v * x2; s3 += v * x3;
      t0 += w * x0; t1 += w * x1; t2 += w * x2; t3 += w * x3;
    }
    put(out, r * B + b, bias, r, s0, s1, s2, s3);
    put(out, (r + 1) * B + b, bias, r + 1, t0, t1, t2, t3);
  }
  if (r < rows) {
    let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (let k = 0, i = r * columns, at = b; k < columns; k++, at += B) {
      const v = W[i++];
      s0 += v * x[at]; s1 += v * x[at + 1]; s2 += v * x[at + 2]; s3 += v * x[at + 3];
    }
    put(out, r * B + b, bias, r, s0, s1, s2, s3);
  }
}

function put(out, at, bias, row, s0, s1, s2, s3) {
  out[at] = s0 + start(bias, out, at, row);
  out[at + 1] = s1 + start(bias, out, at + 1, row);
  out[at + 2] = s2 + start(bias, out, at + 2, row);
  out[at + 3] = s3 + start(bias, out, at + 3, row);
}

const start = (bias, out, at, row) => bias === ADD ? out[at] : bias[row];

export const sigmoid = (a) => 1 / (1 + Math.exp(-a));
export const tanh = (a) => 1 - 2 / (Math.exp(2 * a) + 1); // a third of Math.tanh's time; 1e-16 off where a is near 0

/** One step: h = o tanh(cell'), cell' = f cell + i g. gates (4U, B) in the order i, f, g, o; cell and h (U, B), overwritten. */
export function lstm(gates, cell, h, units, B) {
  const n = units * B;
  for (let k = 0; k < n; k++) {
    cell[k] = sigmoid(gates[n + k]) * cell[k] + sigmoid(gates[k]) * tanh(gates[2 * n + k]);
    h[k] = sigmoid(gates[3 * n + k]) * tanh(cell[k]);
  }
}

/** The columns `from` to `to` of W (rows, columns), as a matrix of its own. */
export function columnsOf(W, rows, columns, from, to) {
  const out = new Float32Array(rows * (to - from));
  for (let r = 0; r < rows; r++) out.set(W.subarray(r * columns + from, r * columns + to), r * (to - from));
  return out;
}

/** Matrices of equal rows side by side: [W_1, W_2, ...]; each is [W, columns]. */
export function beside(rows, ...parts) {
  const width = parts.reduce((sum, [, columns]) => sum + columns, 0);
  const out = new Float32Array(rows * width);
  let at = 0;
  for (const [W, columns] of parts) {
    for (let r = 0; r < rows; r++) out.set(W.subarray(r * columns, (r + 1) * columns), r * width + at);
    at += columns;
  }
  return out;
}

/** Arrays one after another. */
export function joined(arrays) {
  const out = new Float32Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    out.set(array, at);
    at += array.length;
  }
  return out;
}
