// The client of the websocket: receives frames, reconnects, and resumes after the last cursor.
//
//   hello or gap ─▶ events ─▶ … closed ─▶ wait (longer each time, with jitter) ─▶ ?after=<cursor> ─▶ hello or gap
//
// This module does not know images. `online` and a page that becomes visible reconnect without the wait.

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 20_000;
const GREETING_MS = 10_000; // for the handshake and the first frame
const PULSE_MS = 5_000; // if the clock jumps by more than three of these, the computer was asleep
const STALE_MS = 45_000; // hidden for longer than two heartbeats: a dead connection may be unnoticed

export class Live {
  #handlers;
  #socket = null;
  #cursor = null;
  #failures = 0;
  #timer = 0;
  #hiddenAt = 0;
  #isPaused = true;

  /** handlers: hello({images, isFresh}), event(frame), state("connecting" | "live" | "offline"), protocols() */
  constructor(handlers) {
    this.#handlers = handlers;
    let pulse = Date.now();
    setInterval(() => {
      if (Date.now() - pulse > 3 * PULSE_MS) this.#renew();
      pulse = Date.now();
    }, PULSE_MS);
    addEventListener("online", () => this.#renew());
    addEventListener("offline", () => this.#lost(this.#socket));
    document.addEventListener("visibilitychange", () => this.#seen());
  }

  start() {
    this.#isPaused = false;
    this.#soon(0);
  }

  /** Disconnect until `start` is called again; the cursor is kept. */
  pause() {
    this.#isPaused = true;
    this.#drop();
  }

  /** Drop the cursor: the next events belong to another owner. */
  forget() {
    this.#cursor = null;
  }

  #seen() {
    if (document.hidden) this.#hiddenAt = Date.now();
    else if (!this.#socket || Date.now() - this.#hiddenAt > STALE_MS) this.#renew();
  }

  #renew() {
    if (this.#isPaused) return;
    this.#drop();
    this.#failures = 0;
    this.#soon(0);
  }

  #drop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #soon(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), wait);
  }

  async #open() {
    let protocols;
    try {
      protocols = await this.#handlers.protocols();
    } catch {
      if (!this.#isPaused) this.#lost(this.#socket);
      return;
    }
    if (this.#isPaused || this.#socket) return;
    const url = new URL("/ws", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    if (this.#cursor !== null) url.searchParams.set("after", this.#cursor);
    this.#listen(new WebSocket(url, protocols));
  }

  #listen(socket) {
    this.#socket = socket;
    this.#handlers.state("connecting");
    const impatience = setTimeout(() => this.#lost(socket), GREETING_MS);
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      const frame = JSON.parse(data);
      if (frame.type === "hello" || frame.type === "gap") {
        clearTimeout(impatience);
        this.#greeted(frame);
      } else {
        this.#handlers.event(frame);
      }
      // queue positions are not events: they have no cursor
      if (frame.cursor !== undefined) this.#cursor = frame.cursor;
    };
    socket.onclose = () => {
      clearTimeout(impatience);
      this.#lost(socket);
    };
  }

  #greeted(frame) {
    const isFresh = frame.type === "gap" || this.#cursor === null;
    this.#failures = 0;
    this.#handlers.state("live");
    this.#handlers.hello({ images: frame.images, isFresh });
  }

  #lost(socket) {
    if (socket !== this.#socket || this.#isPaused) return;
    this.#drop();
    this.#handlers.state("offline");
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures++);
    this.#soon(wait * (0.5 + Math.random() / 2)); // else all pages reconnect at once to a server that has just started
  }
}
