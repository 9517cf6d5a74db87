// The history, read page by page into what the page knows: more as one scrolls, all of it anew after a gap.

import * as api from "./api.js";

const PAGE = 40; // images at a time
const LARGEST_PAGE = 100; // that the api gives
const COUNT_MS = 600; // one count for all that a purge takes

export class History {
  isLoaded = false; // it was read once
  hasFailed = false; // the last reading
  #pictures;
  #changed;
  #cursor = null;
  #reading = Promise.resolve();
  #isReadingMore = false;
  #countTimer = 0;

  constructor(pictures, changed) {
    this.#pictures = pictures;
    this.#changed = changed;
  }

  /** As much of it as is shown, from the top; one reading at a time. */
  read() {
    this.#reading = this.#reading.then(() => this.#replace());
    return this.#reading;
  }

  /** The page below what is loaded. */
  async more() {
    if (this.#isReadingMore || !this.#pictures.hasMore) return;
    this.#isReadingMore = true;
    const cursor = this.#cursor;
    try {
      const page = await api.history(PAGE, cursor);
      if (cursor !== this.#cursor) return; // read anew meanwhile
      this.#pictures.append(page);
      this.#cursor = page.nextCursor;
      this.hasFailed = false;
    } catch {
      this.hasFailed = true;
    } finally {
      this.#isReadingMore = false;
      this.#changed();
    }
  }

  retry() {
    this.hasFailed = false;
    return this.isLoaded && this.#pictures.hasMore ? this.more() : this.read();
  }

  /** An image below what is loaded is gone: only the server knows how many there are now. */
  countSoon() {
    clearTimeout(this.#countTimer);
    this.#countTimer = setTimeout(async () => {
      try {
        this.#pictures.total = (await api.history(1)).total;
        this.#changed();
      } catch {
        // the next page says it as well
      }
    }, COUNT_MS);
  }

  async #replace() {
    const pictures = this.#pictures;
    const wanted = Math.max(PAGE, pictures.gallery.length);
    const images = [];
    let page = null;
    pictures.beginReplace();
    try {
      do {
        page = await api.history(Math.min(wanted, LARGEST_PAGE), page?.nextCursor);
        images.push(...page.images);
      } while (page.nextCursor && images.length < wanted);
      pictures.replace({ images, total: page.total, hasMore: page.nextCursor !== null });
      this.#cursor = page.nextCursor;
      this.isLoaded = true;
      this.hasFailed = false;
    } catch {
      this.hasFailed = true; // read again with the next fresh hello, or by hand
    }
    this.#changed();
  }
}
