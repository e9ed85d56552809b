// The worker, as promises.

export class Drawing {
  #waiting = new Map();
  #id = 0;

  /** `onReady` is called when the worker runs, `onLost` with one line when it cannot. */
  constructor(onReady, onLost) {
    try {
      this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    } catch (error) {
      onLost(`this browser runs no module workers (${error.message}): take one of 2023 or later`);
      return;
    }
    this.worker.addEventListener("error", (event) => {
      event.preventDefault();
      onLost(`the drawing stopped (${event.message || "its scripts did not load"}): load the page again`);
    });
    this.worker.addEventListener("message", ({ data }) => data.ready ? onReady() : this.#answer(data));
  }

  /** Ask for an act; what comes before the last answer goes to `onPart`. Rejects with an Error of one line. */
  ask(act, content = {}, onPart = () => {}, transfer = []) {
    const id = ++this.#id;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onPart });
      this.worker.postMessage({ id, act, ...content }, transfer);
    });
  }

  #answer({ id, done, error, ...content }) {
    const { resolve, reject, onPart } = this.#waiting.get(id);
    if (!done && error === undefined) return onPart(content);
    this.#waiting.delete(id);
    if (done) resolve(content);
    else reject(new Error(error));
  }
}
