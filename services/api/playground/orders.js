// Requests that are being sent to the api. Each click has one key, so a request sent twice makes its images once.
//
// The event of an image can overtake the answer that names it. An event holds no key, so the image is compared with the
// requests that have no answer yet. While it is shown, one such request needs no card of its own: one card for one
// request. Requests with the same settings are interchangeable until they are answered, so it is enough to count them.
// A batch is one request, named by its first image.

import * as api from "./api.js";
import * as form from "./form.js";

const WAITS_S = [1, 2, 4, 8, 15, 30];
const NOTICED_MS = 300; // a request that is answered earlier needs no card of its own

/** Not `crypto.randomUUID`: it exists on secure origins only, and a playground may use plain HTTP. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const nameOf = (image) => image.batch?.id ?? image.id;

export class Orders {
  sending = []; // {key, request, createdAt, tries, isSlow, retryAt, isUnreachable}, newest first
  #overtakers = new Map(); // by name: the settings of images that arrived while such a request had no answer
  #named = new Set(); // those of answers
  #changed;
  #wakes = new Map();

  constructor(changed) {
    this.#changed = changed;
    addEventListener("online", () => {
      for (const wake of this.#wakes.values()) wake();
    });
  }

  /** True while a request was just sent and may be answered at any moment. */
  get isSending() {
    return this.sending.some(({ isSlow, tries }) => !isSlow && !tries);
  }

  /** The requests that need a card: not answered quickly, and their image has not arrived by an event. */
  get waiting() {
    const overtakers = [...this.#overtakers.values()];
    return this.sending.filter(({ request, isSlow, tries }) => {
      const at = overtakers.indexOf(form.fingerprint(request));
      if (at >= 0) overtakers.splice(at, 1);
      return at < 0 && (isSlow || tries);
    });
  }

  /** An image that the page did not know: perhaps that of a request without an answer. */
  arrived(image) {
    if (this.#named.has(nameOf(image)) || !image.parameters) return;
    const settings = form.fingerprint(form.requestOf(image));
    if (this.#isSent(settings)) this.#overtakers.set(nameOf(image), settings);
  }

  /** The queued images; none if it was given up. Retries for as long as the server is unreachable or busy. */
  async send(request) {
    const key = newKey();
    this.#put({ key, request, createdAt: new Date().toISOString(), tries: 0, isSlow: false });
    setTimeout(() => this.#find(key) && this.#put({ ...this.#find(key), isSlow: true }), NOTICED_MS);
    try {
      while (this.#find(key)) {
        const images = await this.#try(key, request);
        if (images) return images;
      }
      return [];
    } finally {
      this.giveUp(key);
    }
  }

  giveUp(key) {
    this.sending = this.sending.filter((order) => order.key !== key);
    for (const [name, settings] of this.#overtakers) if (!this.#isSent(settings)) this.#overtakers.delete(name);
    this.#wakes.get(key)?.();
    this.#changed();
  }

  async #try(key, request) {
    try {
      const images = await api.order(request, key);
      this.#named.add(nameOf(images[0]));
      this.#overtakers.delete(nameOf(images[0]));
      return images;
    } catch (error) {
      const isPassing = error instanceof api.Unreachable || error.isPassing;
      const order = this.#find(key);
      if (!isPassing) throw error;
      if (order) await this.#pause(order, error);
      return null;
    }
  }

  async #pause(order, error) {
    const wait = Math.max(error.retryAfterS ?? 0, WAITS_S[Math.min(order.tries, WAITS_S.length - 1)]) * 1000;
    const retryAt = new Date(Date.now() + wait).toISOString();
    this.#put({ ...order, tries: order.tries + 1, retryAt, isUnreachable: error instanceof api.Unreachable });
    await new Promise((resolve) => {
      this.#wakes.set(order.key, resolve);
      setTimeout(resolve, wait);
    });
    this.#wakes.delete(order.key);
  }

  #isSent(settings) {
    return this.sending.some(({ request }) => form.fingerprint(request) === settings);
  }

  #find(key) {
    return this.sending.find((order) => order.key === key);
  }

  #put(order) {
    this.sending = [order, ...this.sending.filter(({ key }) => key !== order.key)];
    this.#changed();
  }
}
