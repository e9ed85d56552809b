// What the address holds after #: model, caption, first seed, image, and the other caption of a comparison.

const KEYS = ["model", "caption", "seed", "image", "other"];
const MOST = 2000; // characters of a caption

/** What an address asks for; what it does not say is undefined. */
export function readLink(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  const asked = Object.fromEntries(KEYS.map((key) => [key, found.get(key)?.slice(0, MOST) ?? undefined]));
  if (asked.seed !== undefined && seedOf(asked.seed) === null) delete asked.seed;
  asked.image = /^[1-8]$/.test(asked.image) ? Number(asked.image) : undefined;
  return asked;
}

/** The part of an address from # on. */
export function writeLink(state) {
  const kept = KEYS.filter((key) => state[key] !== undefined && state[key] !== null && state[key] !== "");
  return `#${new URLSearchParams(kept.map((key) => [key, String(state[key])]))}`;
}

const LARGEST = 2n ** 63n - 9n; // eight seeds follow it

/** A seed as BigInt; null where a text is none. */
export function seedOf(text) {
  if (!/^\d{1,19}$/.test(text.trim())) return null;
  const seed = BigInt(text.trim());
  return seed <= LARGEST ? seed : null;
}
