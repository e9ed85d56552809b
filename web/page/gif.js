// A GIF89a writer: a palette for the whole film, LZW, frames one after another.

const INK = [255, 106, 61]; // of the write window
const LAST = 1500;          // milliseconds that the last frame stays
const SIDE = 240;           // pixels, at least, of the longer side

/**
 * Films side by side: {canvases (T, H, W, C) of shades, boxes (T, 4)} each. `delay` is milliseconds a frame. With `box` the write
 * window is drawn; the last frame is the picture alone. Returns the file's bytes.
 */
export function encodeFilm(films, { width: W, height: H, channels: C }, box, delay) {
  const scale = Math.max(1, Math.ceil(SIDE / Math.max(W, H))), gap = films.length > 1 ? 8 : 0;
  const T = films[0].canvases.length / (W * H * C);
  const { palette, indexOf } = paletteOf(films.map(({ canvases }) => canvases), C);
  const width = films.length * (W * scale + gap) - gap, height = H * scale, ink = palette.length - 1, paper = palette.length - 2;
  const out = new Bytes();
  const bits = Math.max(2, Math.ceil(Math.log2(palette.length)));
  out.text("GIF89a").short(width).short(height).byte(0x80 | 7 << 4 | bits - 1).byte(0).byte(0);
  for (let i = 0; i < 1 << bits; i++) for (let c = 0; c < 3; c++) out.byte(palette[i]?.[c] ?? 0);
  out.byte(0x21).byte(0xff).byte(11).text("NETSCAPE2.0").byte(3).byte(1).short(0).byte(0); // again and again
  for (let t = 0; t <= T; t++) {
    const frame = new Uint8Array(width * height).fill(paper), shown = Math.min(t, T - 1);
    films.forEach(({ canvases, boxes }, n) => {
      const left = n * (W * scale + gap);
      for (let y = 0; y < H * scale; y++) {
        for (let x = 0; x < W * scale; x++) {
          frame[y * width + left + x] = indexOf(canvases, ((shown * H + Math.floor(y / scale)) * W + Math.floor(x / scale)) * C);
        }
      }
      if (box && t < T) outline(frame, width, height, left, W * scale, boxes.subarray(4 * t, 4 * t + 4), scale, ink);
    });
    out.byte(0x21).byte(0xf9).byte(4).byte(4).short(Math.round((t < T ? delay : LAST) / 10)).byte(0).byte(0);
    out.byte(0x2c).short(0).short(0).short(width).short(height).byte(0);
    lzw(frame, bits, out);
  }
  return out.byte(0x3b).whole();
}

/** A frame of two pixels around a window, cut at the image's edges. */
function outline(frame, width, height, offset, wide, box, scale, ink) {
  const [left, top, right, bottom] = Array.from(box, (value) => Math.round(value * scale));
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const edge = x - left < 2 || right - x < 2 || y - top < 2 || bottom - y < 2;
      if (!edge) { x = right - 2; continue; }
      if (x >= 0 && x < wide && y >= 0 && y < height) frame[y * width + offset + x] = ink;
    }
  }
}

/** At most 254 colours of shades, then paper and ink; and the index of the colour at a place. */
function paletteOf(arrays, C) {
  const counts = new Map();
  let drop = 0; // low bits of a shade that are let go
  const keyAt = (array, at) => C === 1 ? (array[at] >> drop) * 0x010101 : array[at] >> drop << 16 | array[at + 1] >> drop << 8 | array[at + 2] >> drop;
  for (drop of C === 1 ? [0, 1] : [0, 2]) {
    counts.clear();
    for (const array of arrays) for (let at = 0; at < array.length; at += C) counts.set(keyAt(array, at), (counts.get(keyAt(array, at)) ?? 0) + 1);
    if (counts.size <= 254) break;
  }
  const boxes = medianCut([...counts].map(([key, count]) => ({ key, count, rgb: [key >> 16, key >> 8 & 255, key & 255] })), 254);
  const index = new Map(), top = 255 >> drop;
  const palette = boxes.map((box, i) => {
    const weight = box.reduce((sum, { count }) => sum + count, 0);
    box.forEach(({ key }) => index.set(key, i));
    return [0, 1, 2].map((c) => Math.round(255 / top * box.reduce((sum, { rgb, count }) => sum + rgb[c] * count, 0) / weight));
  });
  return { palette: [...palette, [128, 128, 128], INK], indexOf: (array, at) => index.get(keyAt(array, at)) };
}

/** Colours in at most `most` boxes: the box with the most spread is cut at the median of its longest side (Heckbert, 1982). */
function medianCut(colours, most) {
  const spread = (box) => [0, 1, 2].map((c) => box.reduce(([low, high], { rgb }) => [Math.min(low, rgb[c]), Math.max(high, rgb[c])], [255, 0]))
    .map(([low, high]) => high - low);
  const measured = (box) => ({ box, sides: spread(box), size: Math.max(...spread(box)) * Math.sqrt(box.reduce((sum, { count }) => sum + count, 0)) });
  const boxes = [measured(colours)];
  while (boxes.length < most) {
    const widest = boxes.reduce((best, each, i) => each.size > boxes[best].size ? i : best, 0), { box, sides, size } = boxes[widest];
    if (!size) break;
    const side = sides.indexOf(Math.max(...sides)), half = box.reduce((sum, { count }) => sum + count, 0) / 2;
    box.sort((a, b) => a.rgb[side] - b.rgb[side]);
    let cut = 0;
    for (let sum = 0; cut < box.length - 1 && sum < half; cut++) sum += box[cut].count;
    boxes.splice(widest, 1, measured(box.slice(0, Math.max(cut, 1))), measured(box.slice(Math.max(cut, 1))));
  }
  return boxes.map(({ box }) => box);
}

/** Lempel, Ziv and Welch, as GIF has it: codes grow from bits + 1 to 12 bits, then the table begins anew. */
function lzw(pixels, bits, out) {
  const clear = 1 << bits, end = clear + 1;
  let table = new Map(), next = end + 1, size = bits + 1, buffer = 0, held = 0, block = [];
  const flush = () => { out.byte(block.length); block.forEach((byte) => out.byte(byte)); block = []; };
  const put = (code) => {
    buffer |= code << held;
    for (held += size; held >= 8; held -= 8, buffer >>>= 8) if (block.push(buffer & 255) === 255) flush();
  };
  out.byte(bits);
  put(clear);
  let prefix = pixels[0];
  for (let i = 1; i < pixels.length; i++) {
    const key = prefix << 8 | pixels[i], found = table.get(key);
    if (found !== undefined) { prefix = found; continue; }
    put(prefix);
    prefix = pixels[i];
    if (next < 4096) {
      if (next === 1 << size) size++;
      table.set(key, next++);
    } else {
      put(clear);
      table = new Map();
      next = end + 1;
      size = bits + 1;
    }
  }
  put(prefix);
  if (next === 1 << size && size < 12) size++; // the reader has made an entry of the last code
  put(end);
  if (held) block.push(buffer & 255);
  if (block.length) flush();
  out.byte(0);
}

/** Bytes that grow. */
class Bytes {
  #bytes = new Uint8Array(1 << 16);
  #size = 0;

  byte(value) {
    if (this.#size === this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#size);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes[this.#size++] = value;
    return this;
  }

  short(value) {
    return this.byte(value & 255).byte(value >> 8);
  }

  text(letters) {
    for (const letter of letters) this.byte(letter.charCodeAt(0));
    return this;
  }

  whole() {
    return this.#bytes.slice(0, this.#size);
  }
}
