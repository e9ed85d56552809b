// The field of the caption: it completes words that the model knows, and marks those that it does not.

import { $, element } from "./dom.js";

const FEW = 40; // words, which can all be said
const SLOW = 700; // milliseconds without a key, after which a word counts as finished

export class Field {
  /** `onCaption(parsed)` is called with a caption that can be drawn: its words as `Vocabulary.parse` gives them; `onNone()` for another. */
  constructor(onCaption, onNone) {
    Object.assign(this, { onCaption, onNone });
    this.input = $("caption");
    this.list = $("suggestions");
    this.active = -1;
    this.input.addEventListener("input", () => { this.#typed(); this.#suggest(); });
    this.input.addEventListener("scroll", () => { $("mirror").scrollLeft = this.input.scrollLeft; });
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.input.addEventListener("blur", () => { this.#close(); this.#check(true); });
    this.list.addEventListener("pointerdown", (event) => {
      event.preventDefault(); // the field keeps the focus
      if (event.target.role === "option" || event.target.getAttribute("role") === "option") this.#accept(event.target.textContent);
    });
  }

  /** What words there are; the grammar may be null. */
  use(vocabulary, grammar) {
    this.vocabulary = vocabulary;
    this.grammar = grammar;
    this.#close();
  }

  get text() {
    return this.input.value;
  }

  set text(caption) {
    this.input.value = caption;
    this.#close();
    this.#check(true);
  }

  /** The words of the field, and whether they can be drawn. */
  get parsed() {
    return this.vocabulary.parse(this.text);
  }

  #typed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#check(true), SLOW);
    this.#check(false);
  }

  /** Mark, say and draw. A word that is still being typed and may yet become a known one is left alone unless `finished`. */
  #check(finished) {
    const parsed = this.parsed, caret = this.input.selectionEnd;
    const unfinished = (word) => !finished && word.end === caret && this.vocabulary.beginningWith(word.text, 1).length > 0;
    const unknown = parsed.filter((word) => word.id === null), wrong = unknown.filter((word) => !unfinished(word));
    this.#mark(wrong);
    this.#say(wrong);
    const drawable = parsed.length > 0 && wrong.length === unknown.length && this.vocabulary.idsOf(parsed) !== null;
    this.input.setAttribute("aria-invalid", String(wrong.length > 0 && !this.vocabulary.takesAny));
    if (drawable) this.onCaption(parsed);
    else if (wrong.length || !parsed.length) this.onNone();
  }

  #mark(wrong) {
    const parts = [], text = this.text;
    let at = 0;
    for (const { start, end } of wrong) {
      parts.push(text.slice(at, start), element("mark", { textContent: text.slice(start, end) }));
      at = end;
    }
    $("mirror").replaceChildren(...parts, text.slice(at));
    $("mirror").scrollLeft = this.input.scrollLeft;
  }

  #say(wrong) {
    const key = wrong.map(({ text }) => text).join(" ");
    if (key === this.said && $("said").childNodes.length) return;
    this.said = key;
    const seen = new Set();
    const { vocabulary } = this, few = vocabulary.offered.length <= FEW && !vocabulary.takesAny;
    const lines = wrong.filter(({ text }) => !seen.has(text) && seen.add(text)).slice(0, 3).flatMap((word) => {
      const near = vocabulary.nearest(word.text);
      return [`“${word.text.slice(0, 40)}” is no word of this model${vocabulary.takesAny ? ", which reads it as unknown" : ""}. `,
              ...(near ? [element("button", { type: "button", textContent: `Take “${near}”`, onclick: () => this.#put(word, near) }), " "] : [])];
    });
    if (few && wrong.some(({ text }) => !vocabulary.nearest(text))) lines.push(`It knows only: ${vocabulary.offered.join(" ")}`);
    $("said").replaceChildren(...lines);
  }

  /** Put a known word in the place of one in the field. */
  #put({ text }, known) {
    const found = this.parsed.find((word) => word.text === text);
    if (!found) return;
    this.text = this.text.slice(0, found.start) + known + this.text.slice(found.end);
    this.input.focus();
  }

  #suggest() {
    const caret = this.input.selectionEnd, before = this.text.slice(0, caret);
    const start = before.match(/\S*$/)[0], done = this.vocabulary.parse(before.slice(0, caret - start.length)).map(({ text }) => text);
    const next = (this.grammar?.following(done) ?? []).filter((word) => word.startsWith(start) && word !== start);
    const words = new Set([...next, ...(start ? this.vocabulary.beginningWith(start.toLowerCase()) : [])]);
    const whole = [...words].slice(0, 10);
    if (!whole.length || /\S/.test(this.text[caret] ?? " ")) return this.#close();
    this.active = -1;
    this.list.replaceChildren(...whole.map((word, i) => element("li", { role: "option", id: `suggestion-${i}`, textContent: word, "aria-selected": "false" })));
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.input.removeAttribute("aria-activedescendant");
  }

  #key(event) {
    const options = this.list.hidden ? [] : [...this.list.children];
    if (event.key === "Escape" && options.length) { event.preventDefault(); return this.#close(); }
    if (event.key === "Enter" || event.key === "Tab") {
      if (this.active >= 0 && options.length) { event.preventDefault(); this.#accept(options[this.active].textContent); }
      else if (event.key === "Enter") { this.#close(); this.#check(true); }
      return;
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    if (!options.length) return this.#suggest();
    options[this.active]?.setAttribute("aria-selected", "false");
    this.active = (this.active + step + options.length + (this.active < 0 && step < 0)) % options.length;
    options[this.active].setAttribute("aria-selected", "true");
    this.input.setAttribute("aria-activedescendant", options[this.active].id);
  }

  #accept(word) {
    const caret = this.input.selectionEnd, before = this.text.slice(0, caret).replace(/\S*$/, ""), after = this.text.slice(caret);
    this.input.value = `${before}${word}${after.startsWith(" ") || word === "." ? "" : " "}${after}`;
    const at = before.length + word.length + (word === "." ? 0 : 1);
    this.input.setSelectionRange(at, at);
    this.#typed();
    this.#suggest();
  }

  #close() {
    this.list.hidden = true;
    this.active = -1;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}
