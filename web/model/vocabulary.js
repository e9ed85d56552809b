// Captions as words, words as ids: text2image.data.vocabulary, without HTML's entities.

import { Problem, oneLine } from "./problem.js";

const PADDING = "<pad>", UNKNOWN = "UNK";
const NAME_OF_NO_WORD = /^<[\p{L}\p{N}_]+>$/u; // the padding, and ids that a published dictionary leaves out
const WORD = /[\p{L}\p{N}_'-][\p{L}\p{N}\p{M}_'\u200c\u200d-]*|[.,;:!?]/gu;
const DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const CLITICS = new Set(["'s", "'t", "'d", "'m", "'n", "'n'", "'em", "'ll", "'re", "'ve"]);

/** A text with one spelling for what is spelled in several ways: apostrophes, hyphens, NFC. */
function spelled(text) {
  return text.normalize("NFC").replace(/[\u2018\u2019\u201b\u02bc\uff07]/g, "'").replace(/[\u2010\u2011]/g, "-")
    .replace(/[\u00ad\u2060\ufe0e\ufe0f\ufeff]/g, "").replace(/(?<=[\p{L}\p{N}_])[`\u00b4](?=[\p{L}\p{N}_])/gu, "'");
}

/** A word without the quotes around it. */
const unquoted = (word) => CLITICS.has(word.toLowerCase()) ? word : word.replace(/^'+|'+$/g, "") || word;

/** The words of a model, in id order. Id 0 is the padding; a vocabulary without UNK takes no word but its own. */
export class Vocabulary {
  constructor(words, name) {
    if (!Array.isArray(words) || words[0] !== PADDING || !words.every((word) => typeof word === "string")) {
      throw new Problem(`${name}: its vocabulary is damaged; fetch it again`);
    }
    this.words = words;
    this.ids = new Map(words.map((word, id) => [word, id]));
    if (this.ids.size !== words.length) throw new Problem(`${name}: its vocabulary holds a word twice; fetch it again`);
    this.takesAny = this.ids.has(UNKNOWN);
    /** What a caption may be made of, in id order. */
    this.offered = words.filter((word) => word !== UNKNOWN && !NAME_OF_NO_WORD.test(word));
  }

  /** The words of a caption: [{text, id, start, end}]; id is null for a word that the model does not know. */
  parse(caption) {
    return [...caption.matchAll(/\S+/g)].flatMap(({ 0: part, index }) => {
      for (const word of [part, spelled(part)]) if (this.#knows(word)) return [{ text: word, id: this.ids.get(word), start: index, end: index + part.length }];
      const text = spelled(part);
      const same = text.length === part.length; // then places in one are places in the other
      return [...text.matchAll(WORD)].map((found) => {
        const word = unquoted(found[0]), lower = word === UNKNOWN ? word : word.toLowerCase();
        return { text: lower, id: this.#knows(lower) ? this.ids.get(lower) : null,
                 start: index + (same ? found.index : 0), end: index + (same ? found.index + found[0].length : part.length) };
      });
    });
  }

  /** Ids of a parsed caption; UNK for what is not known, null where that is not to be had. */
  idsOf(parsed) {
    const ids = parsed.map(({ id }) => id ?? this.ids.get(UNKNOWN) ?? null);
    return ids.length && !ids.includes(null) ? ids : null;
  }

  #knows(word) {
    return this.ids.has(word) && word !== PADDING && !NAME_OF_NO_WORD.test(word);
  }

  /** Known words that begin with `start`, in id order: the most frequent first. */
  beginningWith(start, most = 8) {
    const found = [];
    for (const word of this.offered) {
      if (word.startsWith(start) && word !== start && found.push(word) === most) break;
    }
    return found;
  }

  /** The known word that `word` may be meant for: the digit that it names, or one a few edits away; "" where none is near. */
  nearest(word) {
    const digit = String(DIGITS.indexOf(word));
    if (this.offered.includes(digit)) return digit;
    let best = "", least = Infinity;
    for (const known of this.offered) {
      if (Math.abs(known.length - word.length) >= least) continue;
      const distance = edits(word.slice(0, 40), known.slice(0, 40)), length = Math.max(word.length, known.length);
      const near = 3 * distance < length + (word[0] === known[0]); // a third of its letters, if the first is right
      if (near && distance < least) [best, least] = [known, distance];
    }
    return oneLine(best, 40);
  }
}

/** Letters to insert, delete, replace or swap with their neighbour. */
function edits(a, b) {
  let before = [], row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] !== b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) next[j] = Math.min(next[j], before[j - 2] + 1);
    }
    [before, row] = [row, next];
  }
  return row[b.length];
}
