// Pictures that finish while the page is hidden: the title counts them, and a notification is shown if the user wants one.
//
// Only for requests of this tab: without identity, the events of all users arrive here.

import { addressOf } from "./api.js";
import { recall, remember } from "./memory.js";
import * as words from "./words.js";

const WANTED = "darkroom.notify";
const EXPECTED = "darkroom.expected"; // the ids, so that a reload does not lose them
const MOST_EXPECTED = 100;

export class Attention {
  done = 0; // since the page was hidden
  failed = 0;
  isWanted = recall(localStorage, WANTED) === true;
  #expected = new Set(recall(sessionStorage, EXPECTED) ?? []);
  #changed;

  /** `open` is called with the id of the picture whose notification was clicked. */
  constructor(changed, open) {
    this.#changed = changed;
    document.addEventListener("visibilitychange", () => document.hidden || this.#seen());
    navigator.serviceWorker?.addEventListener("message", ({ data }) => data.open && open(data.open));
    navigator.serviceWorker?.startMessages();
  }

  /** "unavailable" without HTTPS, "blocked" by the user or the browser, "on" or "off". */
  get state() {
    if (!("Notification" in window) || !isSecureContext) return "unavailable";
    if (Notification.permission === "denied") return "blocked";
    return this.isWanted && Notification.permission === "granted" ? "on" : "off";
  }

  /** By a click of the user: only then a browser may be asked for the permission. */
  async turn(isWanted) {
    if (isWanted && Notification.permission !== "granted") await Notification.requestPermission();
    this.isWanted = isWanted && Notification.permission === "granted";
    remember(localStorage, WANTED, this.isWanted || null);
    this.#changed();
    if (this.isWanted) await register();
  }

  expect(id) {
    this.#expected = new Set([...this.#expected, id].slice(-MOST_EXPECTED));
    remember(sessionStorage, EXPECTED, [...this.#expected]);
  }

  /** Called for every image in a final state; each counts once. */
  ended(image) {
    if (!this.#expected.delete(image.id)) return;
    remember(sessionStorage, EXPECTED, [...this.#expected]);
    if (!document.hidden || image.status === "cancelled") return;
    if (image.status === "completed") this.done += 1;
    else this.failed += 1;
    if (this.state === "on") notify(image);
    this.#changed();
  }

  #seen() {
    this.done = 0;
    this.failed = 0;
    this.#changed();
  }
}

/** A worker shows the notifications, because browsers of phones take them from nothing else. */
async function register() {
  try {
    const registration = await navigator.serviceWorker.register(addressOf("playground/worker.js"));
    if (!registration.active) await started(registration.waiting ?? registration.installing);
    return registration;
  } catch {
    return null; // a private window, for example
  }
}

const started = (worker) =>
  new Promise((resolve) => {
    const check = () => ["activated", "redundant"].includes(worker.state) && resolve();
    worker.addEventListener("statechange", check);
    check();
  });

async function notify({ id, status, prompt, error }) {
  const title = status === "completed" ? "Picture done" : "Picture failed";
  const failure = status === "completed" ? "" : `${words.failure(error).what} `;
  const options = {
    body: failure + words.brief(prompt, 120),
    icon: addressOf("playground/icons/icon-192.png").href,
    tag: id, // shown once
    data: { id, page: document.baseURI },
  };
  const registration = await register();
  try {
    if (registration?.active) await registration.showNotification(title, options);
    else new Notification(title, options).onclick = () => window.focus();
  } catch {
    // the permission was taken back, or this browser wants a worker and has none: the title still counts
  }
}
