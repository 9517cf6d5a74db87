// Deletions that can be undone for a few seconds: removed from the page at once, from the server after that time.
//
// Deletions in quick succession are one group, with one notice and one undo for all of them.

import * as api from "./api.js";
import * as words from "./words.js";

export class Deletions {
  #pictures;
  #notices;
  #removed;
  #pending = new Set(); // ids
  #group = null; // {notice, ids} of the deletions that the notice is about

  /** `removed` is called with an id once the server has deleted it. */
  constructor({ pictures, notices, removed }) {
    this.#pictures = pictures;
    this.#notices = notices;
    this.#removed = removed;
  }

  begin(id) {
    this.#pictures.hide(id);
    this.#pending.add(id);
    const ids = [...(this.#group?.ids ?? []), id];
    const text = ids.length === 1 ? "Picture deleted" : `${words.count(ids.length, "picture")} deleted`;
    const action = ids.length === 1 ? "Undo" : "Undo all";
    if (this.#group && this.#notices.update(this.#group.notice, { text, action })) {
      this.#group.ids = ids;
      return;
    }
    const group = { ids: [id] };
    this.#group = group;
    group.notice = this.#notices.show("Picture deleted", {
      action: "Undo",
      act: () => this.#undo(group),
      gone: () => this.#end(group),
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

  #undo(group) {
    this.#close(group);
    const restored = group.ids.filter((id) => this.#pictures.get(id));
    for (const id of group.ids) {
      this.#pending.delete(id);
      this.#pictures.unhide(id);
    }
    const many = restored.length > 1 ? `${words.count(restored.length, "picture")} were restored` : null;
    const one = restored.length ? "The picture was restored" : "The picture was also deleted elsewhere";
    this.#notices.say(many ?? one);
  }

  #end(group) {
    this.#close(group);
    for (const id of group.ids) this.#carryOut(id);
  }

  #close(group) {
    if (this.#group === group) this.#group = null;
  }

  async #carryOut(id, options) {
    if (!this.#pending.delete(id)) return;
    try {
      await api.remove(id, options);
      this.#removed(id);
    } catch (error) {
      if (error.status === 404) return this.#removed(id);
      this.#pictures.unhide(id);
      this.#notices.show(`The picture could not be deleted. ${words.problem(error)}`);
    }
  }
}
