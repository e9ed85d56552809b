// Which glimpse is shown: the slider, play and pause, speed.

import { $ } from "./dom.js";

const WHOLE = 3400;                 // milliseconds of a film at speed 1,
const LEAST = 60, MOST = 320;       // within these for a glimpse

export class Player {
  /** `onShow(t)` is called when another glimpse is to be shown, t = 0, 1, ... */
  constructor(onShow) {
    this.onShow = onShow;
    this.glimpses = 1;
    this.at = 0;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    $("play").addEventListener("click", () => this.playing ? this.pause() : this.play(this.at === this.glimpses - 1));
    $("glimpse").addEventListener("input", () => { this.pause(); this.show(Number($("glimpse").value) - 1); });
  }

  /** Milliseconds of a glimpse. */
  get delay() {
    return Math.min(MOST, Math.max(LEAST, WHOLE / this.glimpses)) / Number($("speed").value);
  }

  /** A new film: it is played, or shown whole where the reader wants no motion. */
  begin(glimpses) {
    this.glimpses = glimpses;
    $("glimpse").max = glimpses;
    if (this.still.matches) {
      this.pause();
      this.show(glimpses - 1);
    } else {
      this.play(true);
    }
  }

  play(fromStart = false) {
    this.pause();
    if (fromStart) this.show(0);
    $("play").textContent = "Pause";
    let last = performance.now();
    const frame = (now) => {
      if (now - last >= this.delay) {
        last = now;
        this.show(this.at + 1);
      }
      if (this.at >= this.glimpses - 1) this.pause();
      else this.playing = requestAnimationFrame(frame);
    };
    this.playing = requestAnimationFrame(frame);
  }

  pause() {
    cancelAnimationFrame(this.playing);
    this.playing = 0;
    $("play").textContent = "Play";
  }

  show(t) {
    this.at = Math.max(0, Math.min(t, this.glimpses - 1));
    $("glimpse").value = this.at + 1;
    $("at").textContent = `glimpse ${this.at + 1} of ${this.glimpses}`;
    this.onShow(this.at);
  }
}
