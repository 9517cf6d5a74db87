// The selected pictures of the gallery. No network, no DOM.

export class Selection {
  ids = new Set();
  #changed;
  #anchor = null; // where a range begins

  constructor(changed) {
    this.#changed = changed;
  }

  get size() {
    return this.ids.size;
  }

  has(id) {
    return this.ids.has(id);
  }

  toggle(id) {
    this.ids = new Set(this.ids);
    if (!this.ids.delete(id)) this.ids.add(id);
    this.#anchor = id;
    this.#changed();
  }

  /** Select from the last picture that was clicked to this one, in this order of all. */
  extendTo(id, order) {
    const [from, to] = [order.indexOf(this.#anchor), order.indexOf(id)];
    if (from < 0) return this.toggle(id);
    this.add(order.slice(Math.min(from, to), Math.max(from, to) + 1));
  }

  add(ids) {
    this.ids = new Set([...this.ids, ...ids]);
    this.#changed();
  }

  /** Select these, or none of them if all are selected. */
  toggleAll(ids) {
    if (!ids.every((id) => this.ids.has(id))) return this.add(ids);
    const others = new Set(ids);
    this.ids = new Set([...this.ids].filter((id) => !others.has(id)));
    this.#changed();
  }

  remove(id) {
    if (!this.ids.has(id)) return;
    this.ids = new Set([...this.ids].filter((other) => other !== id));
    this.#changed();
  }

  clear() {
    this.ids = new Set();
    this.#anchor = null;
    this.#changed();
  }
}
