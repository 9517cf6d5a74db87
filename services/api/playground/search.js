// The search: its filter, which the address of the page holds, and what the server finds.
//
// Only the server decides what matches. So what arrives meanwhile makes the page ask again, a moment later.

import * as api from "./api.js";

const PAGE = 40; // pictures at first
const LARGEST_PAGE = 100; // limit of the api
const TYPING_MS = 140; // after a key: about the time between two
const STIR_MS = 400; // one question for all events of a moment
const NOTHING = { q: "", model: "", when: "", from: "", to: "", pinned: false };
export const PERIODS = [
  ["", "Any time"],
  ["today", "Today"],
  ["yesterday", "Yesterday"],
  ["7d", "Last 7 days"],
  ["30d", "Last 30 days"],
  ["days", "Choose days …"],
];
const DAY = /^\d{4}-\d{2}-\d{2}$/;

export class Search {
  filter = fromAddress();
  isCapped = false; // there are more than `total`
  hasMore = false;
  isLoaded = false;
  hasFailed = false;
  #pictures;
  #changed;
  #ids = [];
  #total = 0;
  #cursor = null;
  #reading = 0; // the number of the latest question: answers to earlier ones are dropped
  #isReadingMore = false;
  #timer = 0;
  #isFirst = true;
  #shown = { ids: null, version: 0, images: [] };

  constructor(pictures, changed) {
    this.#pictures = pictures;
    this.#changed = changed;
    addEventListener("popstate", () => this.#follow());
  }

  /** Whether it leaves anything out; else the whole gallery is shown. */
  get isActive() {
    return isActive(this.filter);
  }

  /** Whether there is something to show; until then the gallery stays, so that the field keeps the focus. */
  get isAnswered() {
    return this.isActive && (this.isLoaded || this.hasFailed);
  }

  /** The page was opened with a search: the whole gallery must not flash up before its answer. */
  get isOpening() {
    return this.#isFirst && this.isActive && !this.isAnswered;
  }

  get images() {
    const { hidden, version } = this.#pictures;
    if (this.#shown.ids !== this.#ids || this.#shown.version !== version) {
      const images = this.#ids.filter((id) => !hidden.has(id)).map((id) => this.#pictures.get(id));
      this.#shown = { ids: this.#ids, version, images: images.filter(Boolean) };
    }
    return this.#shown.images;
  }

  get total() {
    const { hidden } = this.#pictures;
    return hidden.size ? this.#total - this.#ids.filter((id) => hidden.has(id)).length : this.#total;
  }

  get loaded() {
    return this.#ids.length;
  }

  /** Change some fields. A step back in the browser leads to the gallery, not through each letter. */
  set(changes, { isTyping = false } = {}) {
    const was = this.filter;
    this.filter = { ...was, ...changes };
    if (this.filter.when !== "days") this.filter = { ...this.filter, from: "", to: "" };
    const url = addressWith(this.filter);
    if (isTyping && isActive(was)) history.replaceState(history.state, "", url);
    else history.pushState({ isSearch: true }, "", url);
    this.#ask(isTyping ? TYPING_MS : 0);
  }

  clear() {
    this.set(NOTHING);
  }

  /** Something that may match has changed. */
  stir() {
    if (this.isActive && this.isLoaded) this.#ask(STIR_MS);
  }

  remove(id) {
    if (!this.#ids.includes(id)) return;
    this.#ids = this.#ids.filter((other) => other !== id);
    this.#total = Math.max(0, this.#total - 1);
  }

  /** Read from the start as much as is shown. */
  async read() {
    clearTimeout(this.#timer);
    this.#reading += 1;
    if (!this.isActive) return;
    const [number, wanted, query] = [this.#reading, Math.max(PAGE, this.#ids.length), queryOf(this.filter)];
    const images = [];
    let page = null;
    try {
      do {
        page = await api.history(Math.min(wanted, LARGEST_PAGE), page?.nextCursor, query);
        if (number !== this.#reading) return;
        images.push(...page.images);
      } while (page.nextCursor && images.length < wanted);
      this.#pictures.keep(images);
      this.#ids = images.map(({ id }) => id);
      this.#take(page);
      this.isLoaded = true;
    } catch {
      if (number !== this.#reading) return;
      this.hasFailed = true;
    }
    this.#changed();
  }

  async more() {
    if (this.#isReadingMore || !this.hasMore) return;
    this.#isReadingMore = true;
    const number = this.#reading;
    try {
      const page = await api.history(this.loaded > 2 * PAGE ? LARGEST_PAGE : PAGE, this.#cursor, queryOf(this.filter));
      if (number !== this.#reading) return;
      this.#pictures.keep(page.images);
      this.#ids = [...new Set([...this.#ids, ...page.images.map(({ id }) => id)])];
      this.#take(page);
    } catch {
      if (number === this.#reading) this.hasFailed = true;
    } finally {
      this.#isReadingMore = false;
      this.#changed();
    }
  }

  retry() {
    this.hasFailed = false;
    return this.isLoaded && this.hasMore ? this.more() : this.read();
  }

  #take(page) {
    this.#total = page.total;
    this.isCapped = page.totalIsCapped;
    this.hasMore = page.nextCursor !== null;
    this.#cursor = page.nextCursor;
    this.hasFailed = false;
  }

  #ask(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.read(), wait);
    this.#isFirst = false;
    if (!this.isActive) {
      this.#ids = [];
      this.isLoaded = false;
      this.hasFailed = false;
      this.#reading += 1;
    }
    this.#changed();
  }

  /** Back, forward, or a link: the address decides. */
  #follow() {
    const next = fromAddress();
    if (JSON.stringify(next) === JSON.stringify(this.filter)) return;
    this.filter = next;
    this.#ask(0);
  }
}

/** The address of the page with this filter, or with the present one. Not relative: that would leave out the filter. */
export function addressWith(filter, hash = location.hash) {
  const query = filter ? parametersOf(filter).toString() : location.search.slice(1);
  return `${location.pathname}${query && `?${query}`}${hash}`;
}

const isActive = ({ q, model, when, pinned }) => Boolean(q.trim() || model || when || pinned);

function parametersOf(filter) {
  const set = Object.entries(filter).filter(([, value]) => value);
  return new URLSearchParams(set.map(([name, value]) => [name, String(value)]));
}

function fromAddress() {
  const given = new URLSearchParams(location.search);
  const day = (name) => (isDay(given.get(name)) ? given.get(name) : "");
  const when = PERIODS.some(([key]) => key === given.get("when")) ? given.get("when") : "";
  return {
    q: (given.get("q") ?? "").slice(0, 200),
    model: (given.get("model") ?? "").slice(0, 100),
    when,
    from: when === "days" ? day("from") : "",
    to: when === "days" ? day("to") : "",
    pinned: given.get("pinned") === "true",
  };
}

/** Whether a text that a person may have typed into the address is a date that exists. */
function isDay(text) {
  if (!DAY.test(text)) return false;
  const at = new Date(`${text}T00:00Z`);
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(text);
}

/** The filter as the parameters of the api. Days begin and end where this browser is. */
function queryOf({ q, model, when, from, to, pinned }) {
  const [since, until] = timesOf(when, from, to);
  return {
    // a single letter is a whole word: while it is typed, it is the beginning of the next one
    q: q.trim().replace(/(^|\s)[a-z]$/i, q.endsWith(" ") ? "$&" : ""),
    model,
    since: since?.toISOString(),
    until: until?.toISOString(),
    pinned: pinned ? "true" : "",
  };
}

function timesOf(when, from, to) {
  const midnight = (daysAgo, base = new Date()) =>
    new Date(base.getFullYear(), base.getMonth(), base.getDate() - daysAgo);
  if (when === "today") return [midnight(0), null];
  if (when === "yesterday") return [midnight(1), midnight(0)];
  if (when === "7d") return [midnight(6), null];
  if (when === "30d") return [midnight(29), null];
  const local = (day) => (day ? new Date(`${day}T00:00`) : null);
  const end = local(to);
  return [local(from), end && midnight(-1, end)];
}
