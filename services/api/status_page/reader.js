// The state and the actions of one visit. The status is read every few seconds while the page is visible.
//
// Dead letters are read only when the list is open and their number has changed: a list holds all of them for a moment.

import { call, identity } from "../playground/api.js";

const EVERY_MS = 3_000;
const LETTERS = "api/status/dead-letters/";

export class StatusReader {
  status = null;
  error = null; // why the status could not be read last
  needsToken = false;
  wasRefused = false;
  letters = null; // null until the list is opened
  opened = null; // the dead letter that is shown
  busy = false; // an action runs
  notice = ""; // the result of the last action
  report = null; // of the last purge or sweep
  #listeners = new Set();
  #timer = null;
  #lettersOf = null; // the number of dead letters when they were read

  constructor() {
    identity.onRefused = () => this.#refused();
    document.addEventListener("visibilitychange", () => document.hidden || this.read());
  }

  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async read() {
    clearTimeout(this.#timer);
    if (this.needsToken || document.hidden) return;
    try {
      this.status = await call("GET", "api/status/");
      this.error = null;
      if (this.letters && this.status.deadLetters !== this.#lettersOf) await this.readLetters();
    } catch (error) {
      if (error.status !== 401) this.error = error;
    }
    this.#changed();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.read(), EVERY_MS);
  }

  signIn(token) {
    identity.use(token);
    this.needsToken = false;
    this.#changed();
    this.read();
  }

  signOut() {
    identity.use(null);
    // the next operator may not see what this one saw
    for (const name of ["status", "error", "letters", "opened", "report"]) this[name] = null;
    this.notice = "";
    this.wasRefused = false;
    this.needsToken = true;
    this.#changed();
  }

  get isSignedIn() {
    return Boolean(identity.token);
  }

  async readLetters() {
    this.#lettersOf = this.status?.deadLetters ?? null;
    this.letters = (await call("GET", LETTERS)).deadLetters;
  }

  openLetters() {
    return this.#act(() => this.readLetters());
  }

  show(id) {
    if (this.opened?.id === id) {
      this.opened = null;
      this.#changed();
      return;
    }
    this.#act(async () => {
      this.opened = await call("GET", `${LETTERS}${encodeURIComponent(id)}/`);
    });
  }

  redrive(id) {
    this.#act(async () => {
      const { imageId } = await call("POST", `${LETTERS}${encodeURIComponent(id)}/redrive/`);
      this.notice = imageId ? `Requested again as image ${imageId}.` : "The message was delivered again.";
      await this.readLetters();
    });
  }

  drop(id) {
    this.#act(async () => {
      await call("DELETE", `${LETTERS}${encodeURIComponent(id)}/`);
      this.notice = "The dead letter was deleted.";
      await this.readLetters();
    });
  }

  /** `name` is `purge` or `sweep`. */
  run(name, dryRun) {
    this.#act(async () => {
      this.report = null;
      const report = await call("POST", `api/status/${name}/`, { body: { dryRun } });
      if (report.published) this.notice = "No janitor has reported yet; the run goes on.";
      else this.report = { name, ...report };
    });
  }

  async #act(action) {
    if (this.busy) return;
    this.busy = true;
    this.notice = "";
    this.#changed();
    try {
      await action();
    } catch (error) {
      this.notice = error.message;
    }
    this.busy = false;
    this.#changed();
  }

  #refused() {
    this.wasRefused = Boolean(identity.token);
    identity.use(null);
    this.needsToken = true;
    this.#changed();
  }

  #changed() {
    for (const listener of this.#listeners) listener();
  }
}
