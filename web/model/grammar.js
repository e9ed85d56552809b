// The captions of MNIST, and which of them training left out: text2image.data.mnist_captions.

import { isBlock } from "./safetensors.js";
import { Problem } from "./problem.js";

export const TEMPLATES = [
  "the digit {first} is on the left of the digit {second} .",
  "the digit {second} is on the right of the digit {first} .",
  "the digit {first} is at the top of the digit {second} .",
  "the digit {second} is at the bottom of the digit {first} .",
  "the digit {first} is at the top left of the image .",
  "the digit {first} is at the bottom right of the image .",
  "the digit {first} is at the top right of the image .",
  "the digit {first} is at the bottom left of the image .",
].map((template) => template.split(" "));
const TWO_DIGITS = 4; // the first four templates name two; template 2j and 2j + 1 say the same in other words

/** The words of a template with its digits. */
export const caption = (template, first, second) =>
  TEMPLATES[template].map((word) => word === "{first}" ? first : word === "{second}" ? second : word).join(" ");

export class Grammar {
  constructor(described, name) {
    const held = isBlock(described) ? described.held_out : null;
    if (!Array.isArray(held) || held.length !== 12 || !held.every((digit) => Number.isInteger(digit) && digit >= 0 && digit <= 10)) {
      throw new Problem(`${name}: its grammar is damaged; fetch it again`);
    }
    this.heldOut = held; // for each place a digit that was never trained on there; 10: none
  }

  /** {template, first, second} of a caption's words; null where it follows no template. */
  match(words) {
    for (let template = 0; template < TEMPLATES.length; template++) {
      const digits = {};
      const fits = words.length === TEMPLATES[template].length && TEMPLATES[template].every((word, i) => {
        if (!word.startsWith("{")) return word === words[i];
        digits[word.slice(1, -1)] = Number(words[i]);
        return /^\d$/.test(words[i]);
      });
      if (fits) return { template, second: 0, ...digits };
    }
    return null;
  }

  isHeldOut(template, first, second) {
    if (template >= TWO_DIGITS) return first === this.heldOut[template + TWO_DIGITS];
    return first === this.heldOut[2 * template] || second === this.heldOut[2 * template + 1];
  }

  /** What training saw of a caption: {status: "trained" | "other words" | "never" | "outside", twin: the same scene in other words}. */
  statusOf(words) {
    const found = this.match(words);
    if (!found) return { status: "outside", twin: null };
    const { template, first, second } = found;
    const other = template < TWO_DIGITS ? template ^ 1 : null;
    const twin = other === null ? null : caption(other, first, second);
    if (!this.isHeldOut(template, first, second)) return { status: "trained", twin };
    return { status: twin && !this.isHeldOut(other, first, second) ? "other words" : "never", twin };
  }

  /** Words that may come after these: by every template that begins so. */
  following(words) {
    const found = TEMPLATES.filter((template) => words.length < template.length && words.every((word, i) =>
      template[i].startsWith("{") ? /^\d$/.test(word) : template[i] === word));
    const next = found.map((template) => template[words.length]).flatMap((word) => word.startsWith("{") ? [..."0123456789"] : [word]);
    return [...new Set(next)];
  }

  /** `count` captions that were held out, spread over all of them. */
  heldOutCaptions(count) {
    const all = TEMPLATES.flatMap((_, template) => Array.from({ length: template < TWO_DIGITS ? 100 : 10 }, (_, n) => n)
      .map((n) => template < TWO_DIGITS ? [template, Math.floor(n / 10), n % 10] : [template, n, 0])
      .filter((row) => this.isHeldOut(...row)));
    const chosen = new Set(Array.from({ length: count }, (_, i) => Math.round(i * (all.length - 1) / Math.max(count - 1, 1))));
    return all.filter((_, i) => chosen.has(i)).map((row) => caption(...row));
  }
}
