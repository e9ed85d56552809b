// A film on the page: the canvas with the write window, and under it the caption, each word as bright as it is attended to.

import { element, paint } from "./dom.js";

// A word that has a fifth of the attention should be seen to have some.
const bright = (share) => (share ** 0.6).toFixed(3);

export class Stage {
  /** `onWord(index)` is called when a word is pressed. */
  constructor(onWord) {
    this.onWord = onWord;
    this.canvas = element("canvas", { role: "img" });
    this.box = element("div", { className: "box", hidden: true });
    this.frame = element("div", { className: "frame" }, this.canvas, this.box);
    this.list = element("ul", { className: "words" });
    this.figure = element("figure", { className: "stage" }, this.frame, this.list);
    this.film = null;
    this.words = [];
  }

  /** The caption, as texts, and which of its words was exchanged (-1: none). */
  caption(words, changed, pressable) {
    this.words = words;
    this.buttons = words.map((word, i) => element("button", {
      type: "button", textContent: word, className: i === changed ? "changed" : "", disabled: !pressable,
      onclick: () => this.onWord(i), "aria-label": `${word}, exchange this word` }));
    this.list.replaceChildren(...this.buttons.map((button) => element("li", {}, button)));
  }

  /** A film of a model's `config`; null for none yet. */
  load(film, config) {
    this.film = film;
    this.config = config;
    this.frame.style.aspectRatio = `${config.width} / ${config.height}`;
    this.frame.style.maxWidth = `calc(54vh * ${config.width / config.height})`;
    this.brightest = film ? film.alphas.reduce((a, b) => Math.max(a, b), 0) : 0;
  }

  show(t, withBox) {
    if (!this.film) return;
    const { width: W, height: H, channels: C } = this.config, size = W * H * C;
    paint(this.canvas, this.film.canvases.subarray(t * size, (t + 1) * size), this.config);
    const [left, top, right, bottom] = this.film.boxes.subarray(4 * t, 4 * t + 4);
    this.box.hidden = !withBox;
    Object.assign(this.box.style, { left: `${100 * left / W}%`, top: `${100 * top / H}%`,
                                    width: `${100 * (right - left) / W}%`, height: `${100 * (bottom - top) / H}%` });
    const alphas = this.attention(t);
    this.buttons.forEach((button, i) => button.style.setProperty("--attended", alphas ? bright(alphas[i] / this.brightest) : 0));
    this.canvas.setAttribute("aria-label", `What the model has drawn of: ${this.words.join(" ")}`);
  }

  /** How much each word is attended to at a glimpse; null where the model does not attend. */
  attention(t) {
    const words = this.film ? this.film.alphas.length / (this.film.boxes.length / 4) : 0;
    return words ? this.film.alphas.subarray(t * words, (t + 1) * words) : null;
  }
}
