// Short notices that disappear by themselves, some with an undo, and announcements for screen readers.

const SHOWN_MS = 6_000;

export class Notices {
  list = []; // {id, text, action, act}
  spoken = "";
  #changed;
  #next = 1;
  #timers = new Map();

  constructor(changed) {
    this.#changed = changed;
  }

  /** Show for a few seconds. `action` is the label of `act`; `gone` is called if the notice ends without it. */
  show(text, { action = null, act = () => {}, gone = () => {} } = {}) {
    const same = this.list.find((one) => one.text === text && !one.action);
    const id = same?.id ?? this.#next++;
    if (!same) this.list = [...this.list, { id, text, action, act, gone }];
    this.#start(id);
    this.#changed();
    return id;
  }

  /** Change the text of a notice, its label or what that does, and show it as long again; false if it has gone. */
  update(id, changes) {
    if (!this.list.some((one) => one.id === id)) return false;
    this.list = this.list.map((one) => (one.id === id ? { ...one, ...changes } : one));
    this.#start(id);
    this.#changed();
    return true;
  }

  /** Announce by a screen reader only. */
  say(text) {
    this.spoken = text;
    this.#changed();
  }

  act(id) {
    this.#take(id)?.act();
  }

  /** Act on the newest notice with an action: Ctrl-Z. */
  undo() {
    const newest = this.list.findLast(({ action }) => action);
    if (newest) this.act(newest.id);
    return Boolean(newest);
  }

  dismiss(id) {
    this.#take(id)?.gone();
  }

  /** Keep the notices while a pointer or the focus is on them. */
  hold() {
    for (const { id } of this.list) clearTimeout(this.#timers.get(id));
  }

  release() {
    for (const { id } of this.list) this.#start(id);
  }

  #start(id) {
    clearTimeout(this.#timers.get(id));
    this.#timers.set(
      id,
      setTimeout(() => this.dismiss(id), SHOWN_MS),
    );
  }

  #take(id) {
    const notice = this.list.find((one) => one.id === id);
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
    this.list = this.list.filter((one) => one.id !== id);
    this.#changed();
    return notice;
  }
}
