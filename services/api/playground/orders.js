// Requests that are being sent to the api. Each click has one key, so a request sent twice makes one image.

import * as api from "./api.js";

const WAITS_S = [1, 2, 4, 8, 15, 30];
const NOTICED_MS = 300; // a request that is answered earlier needs no card of its own

/** Not `crypto.randomUUID`: it exists on secure origins only, and a playground may use plain HTTP. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Orders {
  sending = []; // {key, request, createdAt, tries, isSlow, retryAt, isUnreachable}, newest first
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

  /** The queued image, or null if cancelled. Retries for as long as the server is unreachable or busy. */
  async send(request) {
    const key = newKey();
    this.#put({ key, request, createdAt: new Date().toISOString(), tries: 0, isSlow: false });
    setTimeout(() => this.#find(key) && this.#put({ ...this.#find(key), isSlow: true }), NOTICED_MS);
    try {
      while (this.#find(key)) {
        const image = await this.#try(key, request);
        if (image) return image;
      }
      return null;
    } finally {
      this.giveUp(key);
    }
  }

  giveUp(key) {
    this.sending = this.sending.filter((order) => order.key !== key);
    this.#wakes.get(key)?.();
    this.#changed();
  }

  async #try(key, request) {
    try {
      return await api.order(request, key);
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

  #find(key) {
    return this.sending.find((order) => order.key === key);
  }

  #put(order) {
    this.sending = [order, ...this.sending.filter(({ key }) => key !== order.key)];
    this.#changed();
  }
}
