// The offered models, and the remaining limits.

import * as api from "./api.js";

const OFFERS_AGE_MS = 60_000; // without a websocket nothing says that they have changed
const SETTLE_MS = 150; // one request for several events

export class Allowance {
  offers = null;
  limits = null; // with `at`, when they were read
  #changed;
  #offersAt = Number.NEGATIVE_INFINITY;
  #timer = 0;

  constructor(changed) {
    this.#changed = changed;
  }

  /** Read the limits, and the offers if they are old. A failed read is repeated at the next hello or event. */
  async read() {
    const isOld = Date.now() - this.#offersAt > OFFERS_AGE_MS;
    await Promise.allSettled([isOld && this.#readOffers(), this.#readLimits()]);
    this.#changed();
  }

  /** What settings of the server switch on. */
  hasFeature(name) {
    return this.offers?.features?.includes(name) ?? false;
  }

  /** The models have changed, or may have. */
  renewOffers() {
    this.#offersAt = Number.NEGATIVE_INFINITY;
    this.readSoon();
  }

  /** The limits change with every request and every final state. */
  readSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.read(), SETTLE_MS);
  }

  async #readOffers() {
    this.#offersAt = Date.now(); // before the request: what changes meanwhile is read again
    const offers = await api.offers().catch((error) => {
      this.#offersAt = Number.NEGATIVE_INFINITY;
      throw error;
    });
    // the same object while nothing has changed: the form fits its values to a new one
    if (JSON.stringify(offers) !== JSON.stringify(this.offers)) this.offers = offers;
    this.#changed();
  }

  async #readLimits() {
    const at = Date.now();
    this.limits = { ...(await api.limits()), at };
  }
}
