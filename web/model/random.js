// The noise of a seed, number for number what Python's `seeds.noise((T, D), seed, "sample", device="cpu")` draws: a Mersenne
// Twister with PyTorch's own way from its bits to normal numbers (ATen/native/cpu/DistributionTemplates.h).

import { SHA256 } from "./sha256.js";

const SIZE = 624, SHIFT = 397;
const f32 = Math.fround, TWO_PI = f32(2 * Math.PI);

/** MT19937 (Matsumoto and Nishimura, 1998), 32 bits at a time. */
export class MersenneTwister {
  #state = new Uint32Array(SIZE);
  #next = SIZE;

  constructor(seed) {
    this.#state[0] = seed;
    for (let i = 1; i < SIZE; i++) {
      const before = this.#state[i - 1] ^ (this.#state[i - 1] >>> 30);
      this.#state[i] = Math.imul(1812433253, before) + i;
    }
  }

  next() {
    if (this.#next === SIZE) this.#twist();
    let y = this.#state[this.#next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #twist() {
    const s = this.#state;
    for (let i = 0; i < SIZE; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % SIZE] & 0x7fffffff);
      s[i] = s[(i + SHIFT) % SIZE] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#next = 0;
  }
}

/** The 63-bit seed of a stream (a seed and what it is for), as text2image.seeds.stream_seed. */
export function streamSeed(seed, purpose) {
  const digest = new SHA256().update(new TextEncoder().encode(`(${seed}, '${purpose}')`)).digest();
  return new DataView(digest.buffer).getBigUint64(0, true) >> 1n;
}

/** `count` standard normal numbers, as torch.randn(count, generator=torch.Generator().manual_seed(seed)). */
export function randn(count, seed) {
  const bits = new MersenneTwister(Number(BigInt.asUintN(32, seed)));
  return count < 16 ? few(count, bits) : many(count, bits);
}

/** Blocks of 16: eight uniform numbers give radii, eight give angles; the last block is drawn anew where it is not whole. */
function many(count, bits) {
  const out = new Float32Array(count);
  const uniform = () => (bits.next() & 0xffffff) / 0x1000000;
  for (let i = 0; i < count; i++) out[i] = uniform();
  const block = (start) => {
    for (let j = start; j < start + 8; j++) {
      // In single precision, as there: an angle of 6 is rounded to 5e-7, and the radius makes more of it.
      const radius = f32(Math.sqrt(f32(-2 * f32(Math.log(1 - out[j]))))), angle = f32(TWO_PI * out[j + 8]);
      out[j] = radius * Math.cos(angle);
      out[j + 8] = radius * Math.sin(angle);
    }
  };
  for (let i = 0; i + 16 <= count; i += 16) block(i);
  if (count % 16) {
    for (let i = count - 16; i < count; i++) out[i] = uniform();
    block(count - 16);
  }
  return out;
}

/** Pairs of 53-bit uniform numbers give pairs of normal ones. */
function few(count, bits) {
  const out = new Float32Array(count);
  const uniform = () => {
    const high = bits.next(), low = bits.next();
    return ((high & 0x1fffff) * 2 ** 32 + low) / 2 ** 53;
  };
  for (let i = 0; i < count; i += 2) {
    const angle = 2 * Math.PI * uniform(), radius = Math.sqrt(-2 * Math.log1p(-uniform()));
    out[i] = radius * Math.cos(angle);
    if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

/** What `sample` draws an image with: (T, D) from a seed, a number or BigInt. */
export const noiseOf = (glimpses, latent, seed) => randn(glimpses * latent, streamSeed(BigInt(seed), "sample"));
