// What the page knows of images: those in work, those in the gallery, those that are gone. No network, no DOM.
//
// News of one image comes by three ways that overtake each other (answers, events, pages of the history), so each is
// laid beside what is known: older news is dropped, and what was deleted never comes back.

const FINAL = new Set(["completed", "failed", "cancelled"]);
const SHOWN_SO_FAR = new Set(["running", "completed"]);
const FINISHED_SHOWN = 3; // on the canvas, beside what is in work

export const isFinal = (image) => FINAL.has(image.status);

/** Claims count up, and an image waits before its first claim and after each: so this grows with every move. */
const age = (image) => (isFinal(image) ? Infinity : 2 * image.attempts - (image.status === "running" ? 1 : 0));

const isNewer = (one, other) =>
  one.createdAt === other.createdAt ? one.id > other.id : one.createdAt > other.createdAt;

export class Pictures {
  byId = new Map();
  canvas = []; // ids, newest first: in work, just finished, failed
  gallery = []; // ids of completed images, newest first
  total = 0; // completed images there are, loaded or not
  hasMore = false; // of the history, below what is loaded
  places = {}; // in the queue of all owners, by id, as last heard
  hidden = new Set(); // deleted here, as long as that can be undone
  #gone = new Set();
  #revisions = new Map();
  #changed = null; // ids with news while the history is read

  get(id) {
    return this.byId.get(id);
  }

  onCanvas() {
    return this.canvas.filter((id) => !this.hidden.has(id)).map((id) => this.byId.get(id));
  }

  inGallery() {
    return this.gallery.filter((id) => !this.hidden.has(id)).map((id) => this.byId.get(id));
  }

  inWork() {
    return this.onCanvas().filter((image) => !isFinal(image));
  }

  /** In the queue: 1 is next, null is not known. */
  placeOf(image) {
    return this.places[image.id] ?? image.queuePlace ?? null;
  }

  /** All places as heard. That is newer than what the answer to an order said, also of one that is named no more. */
  hearPlaces(places) {
    for (const id of Object.keys(places)) {
      const known = this.byId.get(id);
      if (known?.queuePlace) this.byId.set(id, { ...known, queuePlace: null });
    }
    this.places = places;
  }

  /** The picture has taken its place. */
  forgetPreview(id) {
    const known = this.byId.get(id);
    if (known?.preview) this.byId.set(id, { ...known, preview: null });
  }

  isGone(id) {
    return this.#gone.has(id);
  }

  /** True where the event is news: not of a deleted image, and not older than what was shown of it. */
  isNews({ subject, revision }) {
    if (this.#gone.has(subject) || revision < (this.#revisions.get(subject) ?? 0)) return false;
    this.#revisions.set(subject, revision);
    return true;
  }

  /** Takes an image as the api shows it; returns the one that was known before, or undefined where nothing changed. */
  learn(image) {
    const known = this.byId.get(image.id);
    if (this.#gone.has(image.id) || (known && age(image) < age(known))) return undefined;
    const isSameAttempt = known?.status === image.status && known.attempts === image.attempts;
    this.#changed?.add(image.id);
    this.byId.set(image.id, {
      ...known,
      ...image,
      progress: isSameAttempt ? known.progress : null,
      // an event does not say it, and what the websocket said is newer
      queuePlace: image.id in this.places ? null : (image.queuePlace ?? (isSameAttempt ? known.queuePlace : null)),
      // it lies below the picture until that is there
      preview: known?.attempts === image.attempts && SHOWN_SO_FAR.has(image.status) ? known.preview : null,
    });
    this.#place(image, known);
    return known ?? null;
  }

  /** How far a painting is, and now and then what it looks like: says as well that it has begun. */
  progress(id, progress, attempt) {
    const known = this.byId.get(id);
    if (!known || isFinal(known) || attempt < known.attempts) return;
    const before = attempt === known.attempts ? known.preview : null;
    const preview = progress.preview ?? before;
    this.byId.set(id, { ...known, status: "running", attempts: attempt, progress, preview });
  }

  /** For good: whatever still comes of it is dropped. */
  remove(id) {
    this.#gone.add(id);
    if (this.gallery.includes(id)) this.total -= 1;
    this.#forget(id);
  }

  /** A finished picture back onto the canvas, where it was before a reload. */
  exhibit(id) {
    const image = this.byId.get(id);
    if (image && !this.canvas.includes(id)) this.canvas = inserted(this.canvas, image, this.byId);
  }

  /** Off the canvas only. */
  dismiss(id) {
    this.canvas = without(this.canvas, id);
    if (!this.gallery.includes(id)) this.byId.delete(id);
  }

  /** The next page below what is loaded. */
  append(page) {
    this.total = page.total;
    this.hasMore = page.nextCursor !== null;
    const fresh = page.images.filter(({ id }) => !this.#gone.has(id) && !this.gallery.includes(id));
    for (const item of fresh) this.#merge(item);
    this.gallery.push(...fresh.map(({ id }) => id));
  }

  /** The history is about to be read anew: what comes in meanwhile is newer than it. */
  beginReplace() {
    this.#changed = new Set();
  }

  /** The gallery is what the history says, and what came in while it was read. */
  replace({ images, total, hasMore }) {
    const held = this.gallery.filter((id) => this.#changed.has(id));
    const before = this.gallery;
    for (const item of images) if (!this.#gone.has(item.id)) this.#merge(item);
    this.gallery = images.map(({ id }) => id).filter((id) => !this.#gone.has(id));
    this.total = total;
    this.hasMore = hasMore;
    for (const id of held) if (!this.gallery.includes(id)) this.#hang(this.byId.get(id));
    for (const id of before) if (!this.gallery.includes(id) && !this.canvas.includes(id)) this.byId.delete(id);
    this.#changed = null;
  }

  #merge(item) {
    this.byId.set(item.id, { ...this.byId.get(item.id), ...item });
  }

  #place(image, known) {
    if (image.status === "cancelled") return this.#forget(image.id);
    if (image.status === "completed") {
      const isHung = this.gallery.includes(image.id) || this.#hang(image);
      if (!isHung && known && !isFinal(known)) this.total += 1;
      this.#trim();
      return;
    }
    if (this.canvas.includes(image.id)) return;
    if (!isFinal(image) && !this.inWork().length) this.#clearFinished();
    this.canvas = inserted(this.canvas, image, this.byId);
  }

  /** False where it is older than what is loaded: its page will bring it. */
  #hang(image) {
    const last = this.byId.get(this.gallery.at(-1));
    if (this.hasMore && last && isNewer(last, image)) return false;
    this.gallery = inserted(this.gallery, image, this.byId);
    this.total += 1;
    return true;
  }

  /** New work begins: the pictures before it hang in the gallery by now. What failed stays until it is put away. */
  #clearFinished() {
    this.canvas = this.canvas.filter((id) => this.byId.get(id).status !== "completed");
  }

  #trim() {
    const finished = this.canvas.filter((id) => this.byId.get(id).status === "completed");
    for (const id of finished.slice(FINISHED_SHOWN)) {
      this.canvas = without(this.canvas, id);
      this.forgetPreview(id);
    }
  }

  #forget(id) {
    this.canvas = without(this.canvas, id);
    this.gallery = without(this.gallery, id);
    this.hidden.delete(id);
    this.#changed?.add(id);
    this.byId.delete(id);
  }
}

const without = (ids, id) => ids.filter((other) => other !== id);

function inserted(ids, image, byId) {
  const place = ids.findIndex((id) => isNewer(image, byId.get(id)));
  return place < 0 ? [...ids, image.id] : ids.toSpliced(place, 0, image.id);
}
