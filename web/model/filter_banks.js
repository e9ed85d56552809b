// Where alignDRAW writes: DRAW's Gaussian filter banks (Gregor et al. 2015, equations 19 to 29).
//
// Letter code: C channels, H W image, N write window. Images lie as (H, C, W).

import { released } from "./kinds.js";

/** Where the released code's filters depart from DRAW's. */
export function geometryOf(config) {
  return {
    first: released(config, "filter_grid") ? Math.floor(config.write_window / 2) + 0.5 : (config.write_window - 1) / 2,
    origin: released(config, "window_centre") ? 0 : 1,
    epsilon: released(config, "filter_sum") ? 1e-4 : 1e-8,
  };
}

/** A window in pixels from a network's five outputs g_x, g_y, log delta, log sigma^2, log gamma; equations 22 to 24. */
export function decodeWindow([gX, gY, logDelta, logVariance, logGamma], { height, width, write_window: N }, { origin }) {
  return {
    x: (width + 1) / 2 * (gX + 1) - origin,
    y: (height + 1) / 2 * (gY + 1) - origin,
    delta: (Math.max(height, width) - 1) / Math.max(N - 1, 1) * Math.exp(logDelta),
    variance: Math.exp(logVariance),
    gamma: Math.exp(logGamma),
  };
}

/** Left, top, right, bottom in pixels of a window's outermost filters. */
export function boxOf({ x, y, delta }, N, { first }) {
  const half = 0.5; // a pixel's centre is at its number, its edges half a pixel away
  const [from, to] = [-first * delta + half, (N - 1 - first) * delta + half];
  return [x + from, y + from, x + to, y + to];
}

/** F (N, extent), row after row, into `out`; equations 25 and 26. */
function fillBank(out, centre, extent, N, window, { first, epsilon }) {
  for (let n = 0; n < N; n++) {
    const at = centre + (n - first) * window.delta;
    let sum = epsilon;
    for (let k = 0; k < extent; k++) {
      sum += out[n * extent + k] = Math.exp(Math.max(-0.5 / window.variance * (k - at) ** 2, -80)); // as there: no less than e^-80
    }
    for (let k = 0; k < extent; k++) out[n * extent + k] /= sum;
  }
}

/** Adds F_y^T w F_x / gamma for every channel of patches to a canvas; equation 29. */
export class Writer {
  constructor(config) {
    this.config = config;
    this.geometry = geometryOf(config);
    const { height: H, width: W, channels: C, write_window: N } = config;
    this.fY = new Float64Array(N * H);
    this.fX = new Float64Array(N * W);
    this.columns = new Float64Array(N * C * W); // w F_x / gamma
  }

  /** canvas (H, C, W); outputs and patches as (5, B) and (N * C * N, B), of image b. Returns the window. */
  write(canvas, outputs, patches, b, B) {
    const { height: H, width: W, channels: C, write_window: N } = this.config, { fY, fX, columns } = this;
    const window = decodeWindow([0, 1, 2, 3, 4].map((k) => outputs[k * B + b]), this.config, this.geometry);
    fillBank(fY, window.y, H, N, window, this.geometry);
    fillBank(fX, window.x, W, N, window, this.geometry);
    columns.fill(0);
    for (let row = 0; row < N * C; row++) {
      for (let n = 0; n < N; n++) {
        const weight = patches[(row * N + n) * B + b] / window.gamma;
        for (let w = 0; w < W; w++) columns[row * W + w] += weight * fX[n * W + w];
      }
    }
    for (let n = 0; n < N; n++) {
      for (let h = 0; h < H; h++) {
        const weight = fY[n * H + h], from = n * C * W, to = h * C * W;
        for (let k = 0; k < C * W; k++) canvas[to + k] += weight * columns[from + k];
      }
    }
    return window;
  }
}
