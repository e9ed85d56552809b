// The heat map: a row a word, a column a glimpse, bright where it was attended to. Touched, it moves the slider.

import { context2d, element } from "./dom.js";

const STOPS = [[8, 8, 16], [80, 22, 90], [178, 50, 72], [245, 132, 48], [252, 233, 160]]; // from nothing to the most

const colour = (value) => {
  const at = Math.min(value, 1) * (STOPS.length - 1), i = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[i].map((from, c) => from + (STOPS[i + 1][c] - from) * (at - i));
};

export class HeatMap {
  /** `onPick(t)` is called with the glimpse that is touched. */
  constructor(place, onPick) {
    this.canvas = element("canvas", { role: "img" });
    this.now = element("div", { className: "now" });
    this.map = element("div", { className: "map" }, this.canvas, this.now);
    this.names = element("div", { className: "names", "aria-hidden": "true" });
    this.last = element("span");
    const ends = element("div", { className: "ends", "aria-hidden": "true" }, element("span", { textContent: "glimpse 1" }), this.last);
    place.replaceChildren(element("div", { className: "heat" }, this.names, this.map, ends));
    const pick = (event) => {
      const { left, width } = this.map.getBoundingClientRect();
      if (this.glimpses) onPick(Math.floor((event.clientX - left) / width * this.glimpses));
    };
    this.map.addEventListener("pointerdown", (event) => { this.map.setPointerCapture(event.pointerId); pick(event); });
    this.map.addEventListener("pointermove", (event) => { if (event.buttons) pick(event); });
  }

  /** alphas (T, L) of so many glimpses, and the L words. */
  load(alphas, glimpses, words) {
    this.glimpses = glimpses;
    this.last.textContent = glimpses;
    this.names.replaceChildren(...words.map((word) => element("span", { textContent: word })));
    Object.assign(this.canvas, { width: glimpses, height: words.length });
    const image = new ImageData(glimpses, words.length), most = alphas.reduce((a, b) => Math.max(a, b), 0);
    for (let t = 0; t < glimpses; t++) {
      for (let l = 0; l < words.length; l++) {
        image.data.set([...colour(alphas[t * words.length + l] / most), 255], 4 * (l * glimpses + t));
      }
    }
    context2d(this.canvas).putImageData(image, 0, 0);
    const sums = words.map((_, l) => alphas.reduce((sum, value, k) => k % words.length === l ? sum + value : sum, 0));
    const order = sums.map((sum, l) => [sum, words[l]]).sort(([a], [b]) => b - a).slice(0, 3).map(([, word]) => word);
    this.canvas.setAttribute("aria-label", `Attention of ${words.length} words over ${glimpses} glimpses; most goes to ${order.join(", ")}`);
  }

  show(t) {
    Object.assign(this.now.style, { left: `${100 * t / this.glimpses}%`, width: `${100 / this.glimpses}%` });
  }
}
