// The images that the page knows: in progress, in the gallery, deleted. No network, no DOM.
//
// Updates of one image arrive on three paths that can overtake each other (answers, events, pages of the history). So
// each is compared with the known state: an older update is dropped, and a deleted image never comes back.

const FINAL = new Set(["completed", "failed", "cancelled"]);
const SHOWN_SO_FAR = new Set(["running", "completed"]);
const FINISHED_KEPT = 3; // cards on the canvas, when another image is requested
const FINISHED_SHOWN = 8; // cards on the canvas: one is removed only where it would become too many, so that nothing moves

export const isFinal = (image) => FINAL.has(image.status);

/** Images by cards, in their order: those of a batch share one, but each that has failed needs one of its own. */
export function grouped(images) {
  const groups = new Map();
  for (const image of images) {
    const name = image.status === "failed" ? `failed ${image.id}` : (image.batch?.id ?? image.id);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(image);
  }
  return [...groups.values()];
}

/** Claims count up, and an image waits before its first claim and after each: so this grows with every transition. */
const age = (image) => (isFinal(image) ? Infinity : 2 * image.attempts - (image.status === "running" ? 1 : 0));

/** The order of the history: by time, then by the place in a batch, then by id. */
function isNewer(one, other) {
  if (one.createdAt !== other.createdAt) return one.createdAt > other.createdAt;
  const [index, otherIndex] = [one.batch?.index ?? -1, other.batch?.index ?? -1];
  return index === otherIndex ? one.id > other.id : index > otherIndex;
}

export class Pictures {
  byId = new Map();
  canvas = []; // ids, newest first: in progress, just completed, failed
  gallery = []; // ids of completed images, newest first; may be very long
  total = 0; // number of completed images, loaded or not
  hasMore = false; // of the history, below what is loaded
  places = {}; // queue positions by id, as last received
  reasons = {}; // why queued images cannot be started, by id, as last received
  seconds = {}; // about how long until each of them starts
  hidden = new Set(); // deleted here, while that can be undone
  version = 0; // grows with every change of what the gallery shows, but not with the progress of an image
  #hung = new Set(); // the ids of the gallery
  #shown = null; // the images of the gallery, until they change
  #gone = new Set();
  #revisions = new Map();
  #changed = null; // ids that changed while the history is read

  get(id) {
    return this.byId.get(id);
  }

  onCanvas() {
    return this.canvas.filter((id) => !this.hidden.has(id)).map((id) => this.byId.get(id));
  }

  inGallery() {
    this.#shown ??= this.gallery.filter((id) => !this.hidden.has(id)).map((id) => this.byId.get(id));
    return this.#shown;
  }

  /** Whether it is loaded as a picture of the gallery. */
  isHung(id) {
    return this.#hung.has(id);
  }

  /** Leave it out until that is undone, or it is removed. */
  hide(id) {
    this.hidden.add(id);
    this.#touch();
  }

  unhide(id) {
    this.hidden.delete(id);
    this.#touch();
  }

  inWork() {
    return this.onCanvas().filter((image) => !isFinal(image));
  }

  /** The queue position: 1 is next, null is unknown. */
  placeOf(image) {
    return this.places[image.id] ?? image.queuePlace ?? null;
  }

  /** What is known of its wait: the queue position, an estimate before its turn, the seconds until it starts, and why
   * it cannot start at all. */
  waitOf(image) {
    const seconds = image.id in this.places ? this.seconds[image.id] : image.estimatedSeconds;
    return {
      place: this.placeOf(image),
      isTurn: Boolean(image.waitingSince),
      seconds: seconds ?? null,
      reason: this.#reasonOf(image),
    };
  }

  /** Take all positions of a frame. They replace those of answers, also for an image that has none any more. */
  hearPlaces(places, seconds = {}) {
    for (const id of Object.keys(places)) {
      const known = this.byId.get(id);
      if (known?.queuePlace) this.byId.set(id, { ...known, queuePlace: null });
    }
    this.places = places;
    this.seconds = seconds;
  }

  /** Take all reasons of a frame. They replace those of answers. */
  hearReasons(reasons) {
    for (const image of this.byId.values()) {
      if (image.waitingFor) this.byId.set(image.id, { ...image, waitingFor: null });
    }
    this.reasons = reasons;
  }

  /** The picture is shown instead. */
  forgetPreview(id) {
    const known = this.byId.get(id);
    if (!known?.preview) return;
    this.byId.set(id, { ...known, preview: null });
    this.#touch();
  }

  isGone(id) {
    return this.#gone.has(id);
  }

  /** True if the event is new: not of a deleted image, and not older than what was shown of the image. */
  isNews({ subject, revision }) {
    if (this.#gone.has(subject) || revision < (this.#revisions.get(subject) ?? 0)) return false;
    this.#revisions.set(subject, revision);
    return true;
  }

  /** Take an image of the api; returns the one known before, null if none, or undefined if nothing changed. */
  learn(image) {
    const known = this.byId.get(image.id);
    if (this.#gone.has(image.id) || (known && age(image) < age(known))) return undefined;
    const isSameAttempt = known?.status === image.status && known.attempts === image.attempts;
    this.#changed?.add(image.id);
    this.byId.set(image.id, {
      ...known,
      ...image,
      progress: isSameAttempt ? known.progress : null,
      // an event does not hold it, and a position from the websocket is newer
      queuePlace: image.id in this.places ? null : (image.queuePlace ?? (isSameAttempt ? known.queuePlace : null)),
      waitingFor: image.waitingFor === undefined && isSameAttempt ? known.waitingFor : image.waitingFor,
      // it is shown below the picture until that is loaded
      preview: known?.attempts === image.attempts && SHOWN_SO_FAR.has(image.status) ? known.preview : null,
    });
    this.#place(image, known);
    if (isFinal(image)) this.#touch();
    return known ?? null;
  }

  /** Take the progress, sometimes with a preview. It also means that the attempt has started. */
  progress(id, progress, attempt) {
    const known = this.byId.get(id);
    if (!known || isFinal(known) || attempt < known.attempts) return;
    const before = attempt === known.attempts ? known.preview : null;
    const preview = progress.preview ?? before;
    this.byId.set(id, { ...known, status: "running", attempts: attempt, progress, preview });
  }

  /** Remove for good: later updates of it are dropped. */
  remove(id) {
    this.#gone.add(id);
    if (this.isHung(id)) this.total -= 1;
    this.#forget(id);
  }

  /** Put a completed picture back on the canvas, where it was before a reload. */
  exhibit(id) {
    const image = this.byId.get(id);
    if (image && !this.canvas.includes(id)) this.canvas = inserted(this.canvas, image, this.byId);
  }

  /** Remove from the canvas only. An answer that is still under way must not bring the card back. */
  dismiss(id) {
    const { status } = this.byId.get(id);
    this.canvas = without(this.canvas, id);
    if (status === "failed") this.#gone.add(id);
    if (status !== "completed") this.byId.delete(id);
  }

  /** Know these images of a search, which may be older than what is loaded of the history. */
  keep(images) {
    for (const item of images) if (!this.#gone.has(item.id)) this.#merge(item);
    this.#touch();
  }

  /** Append the next page of the history. */
  append(page) {
    this.total = page.total;
    this.hasMore = page.nextCursor !== null;
    const fresh = page.images.filter(({ id }) => !this.#gone.has(id) && !this.isHung(id));
    const shown = this.inGallery();
    for (const item of fresh) {
      this.#merge(item);
      this.gallery.push(item.id);
      this.#hung.add(item.id);
    }
    this.#touch();
    // not all of them are looked up again: there may be a hundred thousand
    this.#shown = [...shown, ...fresh.filter(({ id }) => !this.hidden.has(id)).map(({ id }) => this.byId.get(id))];
  }

  /** The history is about to be read again: updates that arrive meanwhile are newer than it. */
  beginReplace() {
    this.#changed = new Set();
  }

  /** Set the gallery to the history and to the images that arrived while it was read. */
  replace({ images, total, hasMore }) {
    const held = this.gallery.filter((id) => this.#changed.has(id));
    const before = this.gallery;
    for (const item of images) if (!this.#gone.has(item.id)) this.#merge(item);
    this.gallery = images.map(({ id }) => id).filter((id) => !this.#gone.has(id));
    this.#hung = new Set(this.gallery);
    this.#touch();
    this.total = total;
    this.hasMore = hasMore;
    for (const id of held) if (!this.isHung(id)) this.#hang(this.byId.get(id));
    const last = this.byId.get(this.gallery.at(-1));
    const isLost = (image) => !this.isHung(image.id) && !(hasMore && isNewer(last, image));
    const lost = this.onCanvas().filter((image) => image.status === "completed" && isLost(image));
    for (const { id } of lost) this.canvas = without(this.canvas, id); // it was deleted meanwhile
    for (const id of before) if (!this.isHung(id) && !this.canvas.includes(id)) this.byId.delete(id);
    this.#changed = null;
  }

  #touch() {
    this.version += 1;
    this.#shown = null;
  }

  #reasonOf(image) {
    return this.reasons[image.id] ?? image.waitingFor ?? null;
  }

  #merge(item) {
    const known = this.byId.get(item.id);
    // as it was parsed if it is new: a copy of so many fields takes more memory, and there may be a hundred thousand
    this.byId.set(item.id, known ? { ...known, ...item } : item);
  }

  #place(image, known) {
    if (image.status === "cancelled") return this.#forget(image.id);
    if (image.status === "completed") {
      const isHung = this.isHung(image.id) || this.#hang(image);
      if (!isHung && known && !isFinal(known)) this.total += 1;
      this.#trim(FINISHED_SHOWN);
      return;
    }
    if (this.canvas.includes(image.id)) return;
    if (!isFinal(image)) this.#trim(this.inWork().length ? FINISHED_KEPT : 0, image.prompt);
    this.canvas = inserted(this.canvas, image, this.byId);
  }

  /** False if it is older than what is loaded: its page will contain it. */
  #hang(image) {
    const last = this.byId.get(this.gallery.at(-1));
    if (this.hasMore && last && isNewer(last, image)) return false;
    this.gallery = inserted(this.gallery, image, this.byId);
    this.#hung.add(image.id);
    this.total += 1;
    return true;
  }

  /**
   * Remove the older pictures, which are in the gallery; earlier ones of `prompt` stay, to be compared. A failed image
   * stays until it is removed.
   */
  #trim(kept, prompt) {
    const isCompleted = ({ status }) => status === "completed";
    const groups = grouped(this.canvas.map((id) => this.byId.get(id)));
    const finished = groups.filter((images) => images.every(isCompleted));
    const isKept = ([image], at) => at < kept || (at < FINISHED_SHOWN && image.prompt === prompt);
    for (const { id } of finished.filter((images, at) => !isKept(images, at)).flat()) {
      this.canvas = without(this.canvas, id);
      this.forgetPreview(id);
    }
  }

  #forget(id) {
    this.canvas = without(this.canvas, id);
    if (this.#hung.delete(id)) this.gallery = without(this.gallery, id);
    this.unhide(id);
    this.#changed?.add(id);
    this.byId.delete(id);
  }
}

const without = (ids, id) => ids.filter((other) => other !== id);

function inserted(ids, image, byId) {
  const place = ids.findIndex((id) => isNewer(image, byId.get(id)));
  return place < 0 ? [...ids, image.id] : ids.toSpliced(place, 0, image.id);
}
