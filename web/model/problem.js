// What a reader of the page can put right. Any other exception is an error of the page.

/** One line: what is wrong, and what to do. */
export class Problem extends Error {}

/** A foreign text on one line of bounded length. */
export function oneLine(text, longest = 120) {
  const line = String(text).replace(/[\p{C}\s]+/gu, " ").trim();
  return line.length <= longest ? line : `${line.slice(0, longest)}...`;
}
