// Reads the history page by page: more on scrolling, all of it again after a gap.

import * as api from "./api.js";

const PAGE = 40; // images at first
const LARGEST_PAGE = 100; // limit of the api
const COUNT_MS = 600; // one count for all images of a purge

export class History {
  isLoaded = false; // has been read once
  hasFailed = false; // the last read failed
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

  /** Read from the start as much as is shown; one read at a time. */
  read() {
    this.#reading = this.#reading.then(() => this.#replace());
    return this.#reading;
  }

  /** Read the next page. */
  async more() {
    if (this.#isReadingMore || !this.#pictures.hasMore) return;
    this.#isReadingMore = true;
    const cursor = this.#cursor;
    try {
      const page = await api.history(this.#pictures.gallery.length > 2 * PAGE ? LARGEST_PAGE : PAGE, cursor);
      if (cursor !== this.#cursor) return; // was read again meanwhile
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

  /** An image that is not loaded was deleted: only the server knows the new count. */
  countSoon() {
    clearTimeout(this.#countTimer);
    this.#countTimer = setTimeout(async () => {
      try {
        this.#pictures.total = (await api.history(1)).total;
        this.#changed();
      } catch {
        // the next page holds the count as well
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
      this.hasFailed = true; // read again at the next fresh hello, or by the button
    }
    this.#changed();
  }
}
