// The page: a caption is drawn from eight seeds; one film is shown, or two side by side.

import { $, element, paint, save } from "./dom.js";
import { Drawing } from "./drawing.js";
import { Field } from "./field.js";
import { HeatMap } from "./heat.js";
import { readLink, seedOf, writeLink } from "./link.js";
import { Player } from "./player.js";
import { Stage } from "./stage.js";
import { Grammar } from "../model/grammar.js";
import { Vocabulary } from "../model/vocabulary.js";

const SEEDS = 8;
const LIST = "models.json";
// What training saw of a caption, where the grammar tells.
const STATUS = {
  trained: ["", "Captions like this one were trained on."],
  "other words": ["Trained on in other words only. ", "This wording was held out of training; the same scene was seen as “%”."],
  never: ["Never trained on. ", "This caption was held out of training, in every wording."],
  unstopped: ["", "Only the full stop is missing: every caption of the training ends with one."],
  begun: ["", "The beginning of a sentence: the model was trained on whole ones."],
  outside: ["", "This is none of the sentences that the model was trained on: what it draws may mean nothing."],
};

class Page {
  constructor() {
    this.listed = [];           // models of this site: {name, title, file, captions}
    this.models = new Map();    // opened ones, by name
    this.seed = 0n;
    this.image = 0;             // which of the eight is shown
    this.films = [];
    this.other = null;          // {words, changed, film} of a comparison
    this.asking = {};           // of each lane, what was asked for last
    this.field = new Field((parsed) => this.draw(parsed), () => this.undrawn());
    this.player = new Player((t) => this.show(t));
    this.stages = [new Stage((i) => this.offerWords(i)), new Stage((i) => this.offerWords(i))];
    this.heat = new HeatMap($("heat"), (t) => { this.player.pause(); this.player.show(t); });
    this.drawing = new Drawing(() => this.start(), (line) => this.alert(line));
    this.makeSeeds();
    this.listen();
  }

  /** The worker runs: fetch the list of models, and open the one that the link asks for. */
  async start() {
    $("unserved").hidden = true;
    const asked = readLink(location.hash);
    try {
      const response = await fetch(LIST, { cache: "no-cache" });
      if (!response.ok) throw new Error();
      const { models, report } = await response.json();
      this.listed = models;
      if (report) $("report").replaceChildren(element("a", { href: report, textContent: "Report of all runs" }));
    } catch {
      this.alert("This site lists no models (models.json is not there): open a file, or run `make site`.");
    }
    $("model").replaceChildren(...this.listed.map(({ name, title }) => element("option", { value: name, textContent: title })));
    const found = this.listed.find(({ name }) => name === asked.model);
    if (asked.seed !== undefined) this.setSeed(asked.seed);
    this.image = (asked.image ?? 1) - 1;
    if (this.listed.length) await this.choose((found ?? this.listed[0]).name, found || !asked.model ? asked : {});
    if (asked.model && !found) this.lacks(asked.model);
  }

  listen() {
    $("model").addEventListener("change", () => this.choose($("model").value));
    $("open").addEventListener("click", () => $("file").click());
    $("file").addEventListener("change", () => { this.openFile($("file").files[0]); $("file").value = ""; });
    $("dismiss").addEventListener("click", () => { $("alert").hidden = true; });
    $("seed").addEventListener("input", () => this.setSeed($("seed").value));
    $("next").addEventListener("click", () => this.setSeed(String(this.seed + BigInt(SEEDS))));
    $("window").addEventListener("change", () => this.player.show(this.player.at));
    $("smooth").addEventListener("change", () => document.body.classList.toggle("smooth", $("smooth").checked));
    $("png").addEventListener("click", () => this.savePicture());
    $("gif").addEventListener("click", () => this.saveFilm());
    $("link").addEventListener("click", () => this.copyLink());
    addEventListener("hashchange", () => this.follow(readLink(location.hash)));
    const files = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragover", (event) => { if (files(event)) { event.preventDefault(); $("drop").hidden = false; } });
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
    addEventListener("drop", (event) => { if (files(event)) { event.preventDefault(); $("drop").hidden = true; this.openFile(event.dataTransfer.files[0]); } });
  }

  alert(line) {
    $("alert").firstElementChild.textContent = line;
    $("alert").hidden = false;
  }

  lacks(name) {
    this.alert(`The link asks for the model “${name.slice(0, 60)}”, which is not on this page: open its file.`);
  }

  // ---- Models

  /** Show a model, opened before or of this site. Where it cannot be opened the one before stays. */
  async choose(name, asked = {}) {
    const wanted = this.choosing = Symbol(name); // another may be chosen while this one is on its way
    try {
      if (!this.models.has(name)) {
        const { file, title } = this.listed.find((each) => each.name === name);
        $("status").textContent = `Opening ${title}…`;
        const part = ({ progress }) => { $("status").textContent = `Opening ${title}: ${Math.round(100 * progress)} %`; };
        this.keep(name, await this.drawing.ask("open", { key: name, url: new URL(file, location.href).href, name: title }, part));
      }
      if (this.choosing === wanted) this.use(name, asked);
    } catch (error) {
      if (this.choosing === wanted) this.refused(error);
    }
  }

  async openFile(file) {
    if (!file) return;
    this.choosing = null;
    try {
      const buffer = await file.arrayBuffer(), name = file.name.slice(0, 60);
      const opened = await this.drawing.ask("open", { key: name, buffer, name }, undefined, [buffer]);
      this.keep(name, opened);
      if (![...$("model").options].some(({ value }) => value === name)) $("model").append(element("option", { value: name, textContent: name }));
      this.use(name);
    } catch (error) {
      this.refused(error);
    }
  }

  refused(error) {
    this.alert(error.message);
    if (this.name) {
      $("model").value = this.name;
      this.sayStatus();
    } else {
      $("status").textContent = "No model is open.";
    }
  }

  keep(name, opened) {
    const vocabulary = new Vocabulary(opened.words, name), grammar = opened.heldOut && new Grammar({ held_out: opened.heldOut }, name);
    this.models.set(name, { ...opened, vocabulary, grammar });
  }

  use(name, asked = {}) {
    this.name = name;
    this.model = this.models.get(name);
    this.films = [];
    this.other = null;
    $("alert").hidden = true;
    $("model").value = name;
    const { vocabulary, grammar, config, parameters, stored, reads } = this.model, listed = this.listed.find((each) => each.name === name);
    this.unconditional = reads === "reads no caption";
    $("caption").disabled = this.unconditional;
    this.field.use(vocabulary, grammar);
    const half = stored?.float16?.length ? ", most of them stored in 16 bits" : "";
    $("about").textContent = `${name}: kind ${this.model.kind}, which ${reads}; ${parameters.toLocaleString("en")} weights to draw with${half}; `
      + `images of ${config.width}×${config.height}, ${config.glimpses} glimpses, ${vocabulary.offered.length.toLocaleString("en")} words.`;
    this.listExamples(listed?.captions ?? []);
    const first = asked.caption ?? listed?.captions?.[0] ?? grammar?.heldOutCaptions(1)[0] ?? vocabulary.offered.slice(0, 5).join(" ");
    this.asked = asked.other;
    this.stages.forEach((stage) => stage.load(null, config));
    this.drawn = this.words = null;
    if (this.unconditional) this.draw([]);
    else this.field.text = first;
  }

  listExamples(captions) {
    const { grammar } = this.model;
    const held = grammar ? grammar.heldOutCaptions(6).filter((caption) => !captions.includes(caption)) : [];
    $("examples").replaceChildren(...(this.unconditional ? [] : [...captions, ...held]).map((caption) => {
      const note = grammar ? STATUS[grammar.statusOf(caption.split(" ")).status][0].trim().replace(/\.$/, "") : "";
      const button = element("button", { type: "button", onclick: () => { this.field.text = caption; } }, caption);
      if (note) button.append(element("small", { textContent: note.toLowerCase() }));
      return element("li", {}, button);
    }));
  }

  // ---- Captions

  /** Draw a caption, unless it is the one that is shown. */
  draw(parsed) {
    const ids = this.model.vocabulary.idsOf(parsed) ?? [], key = `${this.name} ${this.seed} ${ids}`;
    if (key === this.drawn) return this.stale && this.sayStatus();
    this.drawn = key;
    this.words = parsed.map(({ text }) => text);
    if (this.other) this.closeComparison(false);
    $("exchange").hidden = true;
    this.sayStatus();
    this.films = [];
    this.asking.second = null;
    delete document.body.dataset.first;
    delete document.body.dataset.all;
    const image = this.image;
    this.filmsOf(ids, "first", (films, first) => this.arrived(films, image + first));
    if (this.asked && !this.unconditional) this.compare(this.asked);
    this.asked = undefined;
    this.remember();
  }

  /** Films of a caption from the eight seeds. */
  async filmsOf(ids, lane, arrived) {
    const asked = this.asking[lane] = Symbol(lane);  // what was asked for before may still come
    const seeds = Array.from({ length: SEEDS }, (_, n) => String(this.seed + BigInt((n + this.image) % SEEDS)));
    try {
      await this.drawing.ask("draw", { key: this.name, ids, seeds: lane === "first" ? seeds : seeds.slice(0, 1), lane },
                             ({ films, first }) => { if (this.asking[lane] === asked) arrived(films, first); });
    } catch (error) {
      this.alert(error.message);
    }
  }

  /** Films have come, of the images from `first` on; the one that is shown comes first. */
  arrived(films, first) {
    films.forEach((film, i) => {
      const n = (first + i) % SEEDS;
      this.films[n] = film;
      this.paintSeed(n);
    });
    const done = this.films.filter(Boolean).length;
    if (done === 1) {
      this.place();
      this.player.begin(this.model.config.glimpses);
      document.body.dataset.first = performance.now(); // for tests and benchmarks
    } else if (done === SEEDS) {
      document.body.dataset.all = performance.now();
    }
  }

  /** What the field says cannot be drawn: the picture stays that of the caption before. */
  undrawn() {
    if (this.unconditional) return;
    this.stale = true;
    $("status").textContent = this.words ? `The picture is still of: ${this.words.join(" ")}` : "Nothing is drawn yet.";
  }

  sayStatus() {
    this.stale = false;
    const { grammar, reads } = this.model;
    if (this.unconditional) return $("status").replaceChildren("This model reads no caption: it draws what it was trained on.");
    if (!grammar || !this.words) return $("status").replaceChildren(reads === "attends to each word" ? "" : `This model ${reads}.`);
    const { status, twin } = grammar.statusOf(this.words), next = status === "outside" ? grammar.following(this.words) : [];
    const [strong, line] = STATUS[next.length ? (next.join() === "." ? "unstopped" : "begun") : status];
    $("status").replaceChildren(element("strong", { textContent: strong }), line.replace("%", twin ?? ""));
  }

  // ---- What is shown

  /** Put the film of the chosen seed on the stage, and beside it the other one of a comparison. */
  place() {
    const [stage, second] = this.stages, film = this.films[this.image], config = this.model.config;
    if (!film) return;
    stage.load(film, config);
    stage.caption(this.words, -1, true);
    const shown = [stage.figure];
    if (this.other) {
      second.load(this.other.film, config);
      second.caption(this.other.words, this.other.changed, false);
      shown.push(second.figure);
    }
    if ($("stages").children.length !== shown.length) $("stages").replaceChildren(...shown);
    const attends = film.alphas.length > 0;
    $("attention").hidden = !attends;
    if (attends) this.heat.load(film.alphas, config.glimpses, this.words);
    $("hint").hidden = this.unconditional;
    [...$("seeds").children].forEach((button, n) => button.setAttribute("aria-pressed", String(n === this.image)));
  }

  show(t) {
    if (!this.films[this.image]) return;
    for (const stage of this.stages) stage.show(t, $("window").checked);
    const alphas = this.stages[0].attention(t);
    if (!alphas) return $("glimpse").setAttribute("aria-valuetext", `${t + 1} of ${this.model.config.glimpses}`);
    this.heat.show(t);
    const most = this.words[alphas.indexOf(Math.max(...alphas))];
    $("glimpse").setAttribute("aria-valuetext", `${t + 1} of ${this.model.config.glimpses}, attends most to ${most}`);
  }

  makeSeeds() {
    $("seeds").replaceChildren(...Array.from({ length: SEEDS }, (_, n) => element("button", {
      type: "button", "aria-pressed": "false", onclick: () => this.pick(n) }, element("canvas", { width: 1, height: 1, "aria-hidden": "true" }), element("span"))));
    this.setSeed("0");
  }

  paintSeed(n) {
    const { width: W, height: H, channels: C, glimpses: T } = this.model.config, size = W * H * C;
    paint($("seeds").children[n].firstElementChild, this.films[n].canvases.subarray((T - 1) * size, T * size), this.model.config);
  }

  /** The first of the eight seeds. */
  setSeed(text) {
    const seed = seedOf(text);
    $("seed").setAttribute("aria-invalid", String(seed === null));
    $("no-seed").textContent = seed === null ? "A seed is a whole number from 0 on." : "";
    if (seed === null) return;
    this.seed = seed;
    if ($("seed").value.trim() !== String(seed)) $("seed").value = seed;
    [...$("seeds").children].forEach((button, n) => {
      button.lastElementChild.textContent = seed + BigInt(n);
      button.setAttribute("aria-label", `Seed ${seed + BigInt(n)}`);
    });
    if (this.model) this.redraw();
  }

  redraw() {
    if (!this.unconditional && !this.words) return;
    const other = this.other;
    this.drawn = null;
    this.asked = other?.words.join(" ");
    this.draw(this.unconditional ? [] : this.model.vocabulary.parse(this.words.join(" ")));
  }

  /** Show the film of another of the eight seeds. */
  pick(n) {
    if (!this.films[n]) return;
    this.image = n;
    if (this.other) return this.redraw();
    this.place();
    this.player.begin(this.model.config.glimpses);
    this.remember();
  }

  // ---- One word exchanged

  /** Words that may stand in the place of one: those of the grammar, else those that the model treats most like it. */
  async offerWords(index) {
    const { grammar, vocabulary } = this.model, word = this.words[index];
    const changed = (other) => this.words.map((each, i) => i === index ? other : each);
    let offered = grammar ? vocabulary.offered.filter((other) => other !== word && grammar.match(changed(other))) : [];
    if (!offered.length) {
      const { ids } = await this.drawing.ask("similar", { key: this.name, word: vocabulary.parse(word)[0]?.id ?? 1, count: 14 });
      offered = ids.map((id) => vocabulary.words[id]).filter((other) => vocabulary.offered.includes(other));
    }
    const buttons = offered.map((other) => element("button", { type: "button", textContent: other, onclick: () => this.compare(changed(other).join(" ")) }));
    const close = element("button", { type: "button", textContent: "Close", onclick: () => this.leaveExchange() });
    $("exchange").replaceChildren(element("span", { textContent: `In place of “${word}”:` }), ...buttons, close);
    $("exchange").hidden = false;
    this.exchanged = index;
    buttons[0]?.focus();
    $("exchange").onkeydown = (event) => { if (event.key === "Escape") this.leaveExchange(); };
  }

  leaveExchange() {
    $("exchange").hidden = true;
    this.stages[0].buttons?.[this.exchanged]?.focus();
  }

  /** Draw another caption beside the one that is shown, from the same seed. */
  compare(caption) {
    const { vocabulary } = this.model, parsed = vocabulary.parse(caption), ids = vocabulary.idsOf(parsed);
    if (!ids) return;
    const words = parsed.map(({ text }) => text), changed = words.findIndex((word, i) => word !== this.words[i]);
    $("exchange").hidden = true;
    this.filmsOf(ids, "second", ([film]) => {
      const config = this.model.config;
      this.other = { words, changed, film };
      const second = this.stages[1].figure;
      second.querySelector(".take")?.remove();
      second.append(element("div", { className: "take" },
        element("button", { type: "button", textContent: "Take this caption", onclick: () => { this.field.text = words.join(" "); $("caption").focus(); } }),
        element("button", { type: "button", textContent: "Close", onclick: () => this.closeComparison() })));
      this.place();
      this.player.begin(config.glimpses);
      this.remember();
    });
  }

  closeComparison(again = true) {
    this.other = null;
    this.asking.second = null;
    this.stages[1].load(null, this.model.config);
    this.place();
    if (again) {
      this.player.show(this.player.at);
      this.remember();
      this.stages[0].buttons[0]?.focus();
    }
  }

  // ---- Out of the page

  link() {
    return writeLink({ model: this.name, caption: this.unconditional ? undefined : this.words?.join(" "), seed: this.seed, image: this.image + 1,
                       other: this.other?.words.join(" ") });
  }

  remember() {
    history.replaceState(null, "", this.link());
  }

  /** The address was changed by hand, or by a bookmark. */
  follow(asked) {
    if (writeLink(asked) === this.link()) return;
    this.image = (asked.image ?? 1) - 1;
    const known = asked.model === undefined || asked.model === this.name || this.listed.some(({ name }) => name === asked.model) || this.models.has(asked.model);
    if (!known) return this.lacks(asked.model);
    if (asked.seed !== undefined) this.seed = seedOf(asked.seed);
    this.setSeedShown();
    this.choose(asked.model ?? this.name, asked);
  }

  setSeedShown() {
    const model = this.model;
    this.model = null; // only the numbers are to change: `choose` draws
    this.setSeed(String(this.seed));
    this.model = model;
  }

  get fileName() {
    const words = (this.unconditional ? "image" : this.words.join(" ")).replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60);
    return `${words}-seed-${this.seed + BigInt(this.image)}`;
  }

  savePicture() {
    if (!this.stages[0].film) return;
    const { width, height } = this.model.config, scale = Math.ceil(480 / Math.max(width, height)), shown = this.stages.filter(({ film }) => film);
    const sheet = element("canvas", { width: shown.length * (width * scale + 16) - 16, height: height * scale }), context = sheet.getContext("2d");
    context.imageSmoothingEnabled = $("smooth").checked;
    context.imageSmoothingQuality = "high";
    shown.forEach(({ canvas }, i) => context.drawImage(canvas, i * (width * scale + 16), 0, width * scale, height * scale));
    sheet.toBlob((blob) => save(blob, `${this.fileName}.png`), "image/png");
  }

  async saveFilm() {
    if (!this.stages[0].film) return;
    $("gif").disabled = true;
    try {
      const films = this.stages.filter(({ film }) => film).map(({ film: { canvases, boxes } }) => ({ canvases, boxes }));
      const { bytes } = await this.drawing.ask("gif", { films, size: this.model.config, box: $("window").checked, delay: this.player.delay });
      save(new Blob([bytes], { type: "image/gif" }), `${this.fileName}.gif`);
    } catch (error) {
      this.alert(error.message);
    }
    $("gif").disabled = false;
  }

  async copyLink() {
    const address = new URL(this.link(), location.href).href;
    this.remember();
    try {
      await navigator.clipboard.writeText(address);
      $("link").textContent = "Copied";
    } catch {
      $("link").textContent = "It is in the address bar";
    }
    setTimeout(() => { $("link").textContent = "Copy link"; }, 2500);
  }
}

try {
  window.page = new Page();
} catch (error) {
  $("unserved").textContent = `The page cannot work here: ${error.message}.`;
}
