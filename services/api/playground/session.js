// The state and the actions of one visit. The components read its fields and call its methods.
//
//   api ──answers──▶ Session ◀──frames── live         changed() ──▶ the page is rendered
//                       └─ pictures, history, allowance, orders, deletions, notices

import { Allowance } from "./allowance.js";
import * as api from "./api.js";
import { Attention } from "./attention.js";
import { Deletions } from "./deletions.js";
import { History } from "./history.js";
import { Live } from "./live.js";
import { own, recall, remember } from "./memory.js";
import { Notices } from "./notices.js";
import { Orders } from "./orders.js";
import { isFinal, Pictures } from "./pictures.js";
import * as prompts from "./prompts.js";
import { Search } from "./search.js";
import { Selection } from "./selection.js";
import * as words from "./words.js";

const ON_CANVAS = "darkroom.canvas"; // the ids, so that a reload shows the same canvas
const KEPT_ON_CANVAS = 40; // a batch has up to ten
const MOST_IN_A_FILE = 500; // pictures of one zip file, as the api allows
const MOST_AT_ONCE = 3 * MOST_IN_A_FILE; // the api sends an owner three zip files at the same time
const NO_HELLO_MS = 1_500; // then read the history anyway: a proxy may block websockets

export class Session {
  pictures = new Pictures();
  notices = new Notices(() => this.changed());
  orders = new Orders(() => this.changed());
  allowance = new Allowance(() => this.changed());
  history = new History(this.pictures, () => this.changed());
  search = new Search(this.pictures, () => this.changed());
  selection = new Selection(() => this.#selected());
  attention = new Attention(
    () => this.changed(),
    (id) => this.#show(id),
  );
  connection = "connecting"; // or "live", or "offline"
  needsToken = false;
  wasRefused = false; // the token that was tried
  openId = null; // of the picture in the viewer
  isCanvasCleared = false; // by the user: until the next request, the canvas does not show the newest picture
  reorder = () => {}; // requests these images again; set by the owner of the form
  reveal = () => {}; // set by the gallery: focuses the tile of a picture
  #deletions = new Deletions({
    pictures: this.pictures,
    notices: this.notices,
    removed: (id) => this.#removed(id),
  });
  #live = new Live({
    hello: (greeting) => this.#greeted(greeting),
    event: (frame) => this.#heard(frame),
    state: (state) => this.#connected(state),
    protocols: api.ticket,
  });
  #listeners = new Set();
  #isDrawing = false;
  #renewed = new Set(); // URLs that did not load
  #lastCancelled = { images: [], notice: 0 }; // one notice for all while it is shown
  #channel = "BroadcastChannel" in window ? new BroadcastChannel(own("darkroom")) : null;

  constructor() {
    api.identity.onRefused = () => this.#refused();
    addEventListener("pagehide", () => this.#leave());
    addEventListener("pageshow", ({ persisted }) => persisted && this.#live.start());
    // changes that are not events of the bus go to the other tabs of this browser
    this.#channel?.addEventListener("message", ({ data }) => this.#told(data));
  }

  /** REST first: it answers 401 if a sign-in is needed; a websocket just fails. */
  async start() {
    await this.allowance.read();
    if (this.needsToken) return;
    this.#live.start();
    this.search.read();
    setTimeout(() => this.history.isLoaded || this.history.read(), NO_HELLO_MS);
  }

  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Renders once for all changes of one turn of the event loop. */
  changed() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    queueMicrotask(() => {
      this.#isDrawing = false;
      for (const listener of this.#listeners) listener();
    });
  }

  /** What the gallery shows: what the search finds, or all pictures. */
  get listing() {
    if (this.search.isAnswered) return this.search;
    const { pictures, history } = this;
    return {
      images: pictures.inGallery(),
      total: pictures.total - pictures.hidden.size,
      isCapped: false,
      hasMore: pictures.hasMore,
      loaded: pictures.gallery.length,
      isLoaded: history.isLoaded,
      hasFailed: history.hasFailed,
      more: () => history.more(),
      retry: () => history.retry(),
    };
  }

  // ------------------------------------------------------------ actions

  /** Returns the error if the request was refused, else null. */
  async order(request) {
    try {
      for (const image of await this.orders.send(request)) this.#requested(image);
      return null;
    } catch (error) {
      // the answer to a repeated request: its images have ended meanwhile
      for (const image of error.images ?? []) this.#learn(image);
      return error.images?.length || error.code === "image_deleted" ? null : error;
    } finally {
      this.allowance.readSoon();
    }
  }

  /** Cancel one image, or those of a batch that have not ended. */
  async cancel(images) {
    const [{ id }] = images;
    try {
      await (images.length > 1 ? api.cancelBatch(id) : api.cancel(id));
      for (const image of images) if (!isFinal(this.pictures.get(image.id) ?? image)) this.#cancelled(image);
    } catch (error) {
      this.notices.show(words.problem(error));
      if (error.status === 409 || error.status === 404) for (const image of images) this.#look(image.id);
    }
    this.allowance.readSoon();
  }

  async pin(id, pinned) {
    try {
      this.#learn(await api.pin(id, pinned));
      this.#channel?.postMessage({ look: id });
      this.search.stir();
      this.notices.say(pinned ? "Pinned" : "No longer pinned");
    } catch (error) {
      this.notices.show(words.problem(error));
    }
  }

  delete(id) {
    this.#deletions.begin(id);
    this.selection.remove(id);
    this.changed();
  }

  deleteAll(ids) {
    for (const id of ids) this.#deletions.begin(id);
    this.selection.clear();
  }

  /** One after the other, a few at once: a browser opens six connections to a host. */
  async pinAll(ids, pinned) {
    const waiting = ids.filter((id) => this.pictures.get(id)?.pinned !== pinned);
    const errors = [];
    let done = 0;
    const work = async () => {
      for (let id = waiting.pop(); id; id = waiting.pop()) {
        try {
          this.#learn(await api.pin(id, pinned));
          this.#channel?.postMessage({ look: id });
          done += 1;
        } catch (error) {
          errors.push(error);
        }
      }
    };
    await Promise.all(Array.from({ length: 4 }, work));
    this.selection.clear();
    this.search.stir();
    if (done) this.notices.show(`${words.count(done, "picture")} ${pinned ? "pinned" : "no longer pinned"}`);
    if (errors.length) {
      this.notices.show(`${words.count(errors.length, "picture")} could not be changed. ${words.problem(errors[0])}`);
    }
  }

  /** The browser stores the file as it arrives, so nothing of it is in the memory of the page. */
  async downloadAll(ids) {
    if (ids.length > MOST_AT_ONCE) {
      this.notices.show(`At most ${words.count(MOST_AT_ONCE, "picture")} can be downloaded at once`);
      return;
    }
    try {
      const links = [];
      for (let from = 0; from < ids.length; from += MOST_IN_A_FILE) {
        links.push(await api.archive(ids.slice(from, from + MOST_IN_A_FILE)));
      }
      for (const { url } of links) follow(url);
      this.notices.show(`Downloading ${words.count(ids.length, "picture")}`);
    } catch (error) {
      this.notices.show(`The pictures could not be downloaded. ${words.problem(error)}`);
    }
  }

  /** Remove from the canvas: a picture stays in the gallery, a failed image is no longer shown. */
  dismiss(id) {
    const isFailed = this.pictures.get(id)?.status === "failed";
    if (this.pictures.canvas.includes(id)) this.pictures.dismiss(id);
    if (!this.pictures.canvas.length && !isFailed) this.isCanvasCleared = true;
    this.#channel?.postMessage({ dismissed: id });
    this.#rememberCanvas();
    this.changed();
  }

  dismissAll(images) {
    for (const { id } of images) this.dismiss(id);
  }

  /** Read the whole current record: pages of the history hold less, and signed URLs expire. */
  async complete(id) {
    try {
      const image = await api.image(id);
      if (image.status === "completed") this.pictures.learn(image);
      this.changed();
    } catch (error) {
      if (error.status === 404) this.#removed(id);
      else this.notices.show(words.problem(error));
    }
  }

  /** The picture covers the preview completely. */
  covered(id) {
    this.pictures.forgetPreview(id);
    this.changed();
  }

  /** A file of the image did not load: its URL may have expired while the page was open. Read once for each URL. */
  renew(id, url) {
    if (this.#renewed.has(url)) return;
    this.#renewed.add(url);
    this.#look(id);
  }

  signIn(token) {
    if (token !== api.identity.token) prompts.forgetAll(); // another tab's or an earlier user's
    api.identity.use(token);
    this.needsToken = false;
    this.#live.forget();
    this.start();
    this.changed();
  }

  signOut() {
    this.#leave();
    remember(sessionStorage, ON_CANVAS, null);
    prompts.forgetAll(); // the next user of this browser may be another person
    api.identity.use(null);
    location.reload(); // keep nothing in memory
  }

  get isSignedIn() {
    return api.identity.token !== null && !this.needsToken;
  }

  // ------------------------------------------------------------ what arrives

  #connected(state) {
    if (state === "live" && this.connection === "offline") this.notices.say("Reconnected");
    if (state === "offline" && this.connection === "live") this.notices.say("Offline. Trying to reconnect.");
    // "connecting" after "offline" is still shown as offline
    if (state !== "connecting") this.connection = state;
    this.changed();
  }

  #greeted({ images, isFresh }) {
    this.pictures.places = {}; // from before the connection was lost
    this.pictures.hearReasons({});
    const shown = this.history.isLoaded
      ? this.pictures.inWork().map(({ id }) => id)
      : (recall(sessionStorage, ON_CANVAS) ?? []);
    for (const image of images) this.#learn(image);
    if (isFresh) {
      const inFlight = new Set(images.map(({ id }) => id));
      for (const id of shown) if (!inFlight.has(id)) this.#look(id, { onCanvas: true });
      this.history.read();
      this.search.read();
    }
    this.allowance.renewOffers();
    this.changed();
  }

  #heard(frame) {
    const { type, subject: id, attempt, data } = frame;
    if (type === "places") {
      this.pictures.hearPlaces(frame.places, frame.estimatedSeconds);
      this.changed();
      return;
    }
    if (type === "models") {
      this.allowance.renewOffers();
      return;
    }
    if (type === "waiting") {
      this.pictures.hearReasons(frame.waitingFor);
      this.changed();
      return;
    }
    if (id === undefined || data === undefined) return; // a frame of a newer server
    if (!this.pictures.isNews(frame)) return;
    if (type === "image.progress") {
      this.pictures.progress(id, data, attempt);
      this.changed();
      return;
    }
    if (type === "image.deleted") this.#removed(id);
    // a request that was rejected before a record existed has only an id and an error: it is another service's
    else if (data.prompt !== undefined) this.#learn(data);
    this.allowance.readSoon();
  }

  #learn(image) {
    const known = this.pictures.learn(image);
    if (known === undefined) return;
    if (known === null) this.orders.arrived(image);
    if (image.status === "queued") this.isCanvasCleared = false;
    if (image.status === "completed" && known?.status !== "completed") this.search.stir();
    if (image.status === "cancelled") this.#cancelled(known);
    else if (image.status !== known?.status) this.#announce(image, known);
    if (isFinal(image)) this.attention.ended(image);
    this.#rememberCanvas();
    this.changed();
  }

  /** Its last event may have overtaken this answer. */
  #requested(image) {
    this.attention.expect(image.id);
    this.#learn(image);
    const known = this.pictures.get(image.id);
    if (known && isFinal(known)) this.attention.ended(known);
  }

  #show(id) {
    location.hash = id;
  }

  #announce(image, known) {
    const prompt = words.brief(image.prompt, 60);
    const { index, count } = image.batch ?? { index: 0, count: 1 };
    const many = count > 1 ? `${words.count(count, "picture")}: ` : "";
    const which = count > 1 ? `${words.oneOf(image)}: ` : "";
    if (image.status === "queued" && !known && !index) this.notices.say(`Requested: ${many}${prompt}`);
    if (image.status === "running" && image.attempts === 1 && !index) this.notices.say(`Painting: ${many}${prompt}`);
    if (image.status === "completed" && known) this.notices.say(`Done: ${which}${prompt}`);
    if (image.status === "failed") this.notices.say(`Failed: ${which}${prompt}. ${words.failure(image.error).what}`);
  }

  /** Arrives twice, with the answer and with the event; shown once. */
  #cancelled(known) {
    if (!known || this.pictures.isGone(known.id)) return;
    this.pictures.remove(known.id);
    let images = [...this.#lastCancelled.images, known];
    let { notice } = this.#lastCancelled;
    if (!this.notices.update(notice, this.#cancelNotice(images))) {
      images = [known];
      const { text, ...again } = this.#cancelNotice(images);
      notice = this.notices.show(text, again);
    }
    this.#lastCancelled = { images, notice };
    this.#rememberCanvas();
    this.changed();
  }

  #cancelNotice(images) {
    const text = images.length > 1 ? `${words.count(images.length, "picture")} cancelled` : "Request cancelled";
    return { text, action: "Start again", act: () => this.reorder(images) };
  }

  #removed(id) {
    this.#deletions.forget(id);
    const known = this.pictures.get(id);
    const isCounted = !known || known.status === "completed";
    if (isCounted && this.history.isLoaded && !this.pictures.isHung(id)) this.history.countSoon();
    this.pictures.remove(id);
    this.search.remove(id);
    this.selection.remove(id);
    if (known && this.openId === id) this.notices.show("This picture was deleted");
    this.#rememberCanvas();
    this.changed();
  }

  #selected() {
    const { size } = this.selection;
    this.notices.say(size ? `${words.count(size, "picture")} selected` : "Nothing is selected");
    this.changed();
  }

  #refused() {
    this.wasRefused = api.identity.token !== null;
    this.needsToken = true;
    this.#live.pause();
    this.changed();
  }

  #told({ dismissed, look }) {
    if (dismissed && this.pictures.canvas.includes(dismissed)) {
      this.pictures.dismiss(dismissed);
      this.#rememberCanvas();
      this.changed();
    }
    if (look && this.pictures.get(look)) this.#look(look);
  }

  /** Read an image whose state is not known any more. */
  async #look(id, { onCanvas = false } = {}) {
    try {
      this.#learn(await api.image(id));
      if (onCanvas) this.pictures.exhibit(id);
      this.#rememberCanvas();
      this.changed();
    } catch (error) {
      if (error.status === 404) this.#removed(id);
    }
  }

  #rememberCanvas() {
    remember(sessionStorage, ON_CANVAS, this.pictures.canvas.slice(0, KEPT_ON_CANVAS));
  }

  #leave() {
    this.#deletions.finish();
    this.#live.pause();
  }
}

/** Begin a download; the page stays. */
function follow(url) {
  const link = document.createElement("a");
  link.href = url;
  link.download = "";
  link.click();
}
