// What can be ordered, and how much of it is left.

import * as api from "./api.js";

const SETTLE_MS = 150; // one look for several events

export class Allowance {
  offers = null;
  limits = null; // with `at`, when they were read
  #changed;
  #timer = 0;

  constructor(changed) {
    this.#changed = changed;
  }

  /** The offers once, the limits now. What cannot be read is read with the next hello, or the next event. */
  async read() {
    await Promise.allSettled([this.offers ?? this.#readOffers(), this.#readLimits()]);
    this.#changed();
  }

  /** What is left changes with every order and every end. */
  readSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.read(), SETTLE_MS);
  }

  async #readOffers() {
    this.offers = await api.offers();
    this.#changed();
  }

  async #readLimits() {
    const at = Date.now();
    this.limits = { ...(await api.limits()), at };
  }
}
