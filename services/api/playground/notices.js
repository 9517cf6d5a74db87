// What the page says in passing: notices that leave by themselves, some with a way back, and words for screen readers.

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

  /** Shown for a few seconds; `action` names what `act` does; `gone` is called when it leaves without that. */
  show(text, { action = null, act = () => {}, gone = () => {} } = {}) {
    const id = this.#next++;
    this.list = [...this.list, { id, text, action, act, gone }];
    this.#start(id);
    this.#changed();
  }

  /** Said by a screen reader, not shown. */
  say(text) {
    this.spoken = text;
    this.#changed();
  }

  act(id) {
    this.#take(id)?.act();
  }

  /** The newest way back: what Ctrl-Z takes. */
  undo() {
    const newest = this.list.findLast(({ action }) => action);
    if (newest) this.act(newest.id);
    return Boolean(newest);
  }

  dismiss(id) {
    this.#take(id)?.gone();
  }

  /** While it is looked at, a notice stays. */
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
