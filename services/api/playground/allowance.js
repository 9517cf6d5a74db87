// The offered models, and the remaining limits.

import * as api from "./api.js";

const SETTLE_MS = 150; // one request for several events

export class Allowance {
  offers = null;
  limits = null; // with `at`, when they were read
  #changed;
  #timer = 0;

  constructor(changed) {
    this.#changed = changed;
  }

  /** Read the offers once, the limits now. A failed read is repeated at the next hello or event. */
  async read() {
    await Promise.allSettled([this.offers ?? this.#readOffers(), this.#readLimits()]);
    this.#changed();
  }

  /** The limits change with every request and every final state. */
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
