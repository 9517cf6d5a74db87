// Deletions that can be undone for a few seconds: removed from the page at once, from the server after that time.

import * as api from "./api.js";
import * as words from "./words.js";

export class Deletions {
  #pictures;
  #notices;
  #removed;
  #pending = new Set(); // ids

  /** `removed` is called with an id once the server has deleted it. */
  constructor({ pictures, notices, removed }) {
    this.#pictures = pictures;
    this.#notices = notices;
    this.#removed = removed;
  }

  begin(id) {
    this.#pictures.hidden.add(id);
    this.#pending.add(id);
    this.#notices.show("Picture deleted", {
      action: "Undo",
      act: () => this.#undo(id),
      gone: () => this.#carryOut(id),
    });
  }

  /** It was deleted elsewhere: nothing is left to do. */
  forget(id) {
    this.#pending.delete(id);
  }

  /** The page is closed: carry out the pending deletions now. */
  finish() {
    for (const id of [...this.#pending]) this.#carryOut(id, { keepalive: true });
  }

  #undo(id) {
    this.#pending.delete(id);
    this.#pictures.hidden.delete(id);
    this.#notices.say(this.#pictures.get(id) ? "The picture was restored" : "The picture was also deleted elsewhere");
  }

  async #carryOut(id, options) {
    if (!this.#pending.delete(id)) return;
    try {
      await api.remove(id, options);
      this.#removed(id);
    } catch (error) {
      if (error.status === 404) return this.#removed(id);
      this.#pictures.hidden.delete(id);
      this.#notices.show(`The picture could not be deleted. ${words.problem(error)}`);
    }
  }
}
