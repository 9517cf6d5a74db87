// Zoom of the picture in the viewer, and the swipe to the next one: by mouse, fingers, wheel and button.
//
//   mouse: click toggles 100 %, drag moves    fingers: pinch, double tap, drag, swipe    wheel: with Ctrl, or a trackpad

import { useEffect, useReducer, useRef } from "./vendor/htm-preact.js";

const MOST = 8; // times the size that fits
const SWIPE_PX = 50;
const CLICK_PX = 6; // a pointer that moved less has clicked
const DOUBLE_MS = 300;
const NEARLY = 1.05; // a picture that is shown at 100 % already is enlarged to twice its size

class Zoom {
  scale = 1;
  x = 0; // pixels that the middle of the picture is moved by
  y = 0;
  pull = 0; // of a swipe that has begun
  #points = new Map();
  #start = null; // of the gesture: {x, y, scale, left, top, distance, moved}
  #tappedAt = 0;

  constructor(stage, picture, changed) {
    this.stage = stage;
    this.picture = picture;
    this.changed = changed;
  }

  /** The scale at which a pixel of the picture is a pixel of the page. */
  get full() {
    return this.picture().dataset.width / this.picture().offsetWidth;
  }

  get percent() {
    return Math.round((100 * this.scale) / this.full);
  }

  toggle(at = { x: 0, y: 0 }) {
    this.zoomTo(this.scale > 1 ? 1 : this.full > NEARLY ? this.full : 2, at);
  }

  /** `at` is the point that stays where it is, from the middle of the stage. */
  zoomTo(scale, at) {
    const next = Math.min(Math.max(scale, 1), Math.max(MOST, this.full));
    this.x = at.x - ((at.x - this.x) * next) / this.scale;
    this.y = at.y - ((at.y - this.y) * next) / this.scale;
    this.scale = next;
    this.#keepInside();
    this.changed();
  }

  reset() {
    Object.assign(this, { scale: 1, x: 0, y: 0, pull: 0 });
    this.#points.clear();
  }

  down(event) {
    if (event.target.closest("button") || (event.pointerType === "mouse" && event.button)) return;
    this.#points.set(event.pointerId, event);
    this.#begin();
  }

  move(event) {
    if (!this.#points.has(event.pointerId)) return;
    this.#points.set(event.pointerId, event);
    const now = this.#middle();
    const [dx, dy] = [now.x - this.#start.x, now.y - this.#start.y];
    this.#start.moved = Math.max(this.#start.moved, Math.hypot(dx, dy));
    if (this.#points.size > 1) {
      this.#start.moved = Infinity;
      this.zoomTo((this.#start.scale * now.distance) / this.#start.distance, now);
    } else if (this.scale > 1) {
      this.x = this.#start.left + dx;
      this.y = this.#start.top + dy;
      this.#keepInside();
    } else if (event.pointerType !== "mouse") {
      this.pull = dx;
    }
    this.changed();
  }

  /** What the gesture was: "left" or "right" for a swipe, "click" for one beside the picture, else null. */
  up(event) {
    if (!this.#points.delete(event.pointerId)) return null;
    const { pull } = this;
    const moved = this.#start.moved;
    this.pull = 0;
    if (this.#points.size) this.#begin();
    else if (event.type !== "pointercancel" && moved < CLICK_PX) return this.#clicked(event);
    this.changed();
    const isSwipe = event.type !== "pointercancel" && !this.#points.size && Math.abs(pull) > SWIPE_PX;
    return isSwipe ? (pull < 0 ? "left" : "right") : null;
  }

  #clicked(event) {
    this.changed();
    if (!this.picture().contains(event.target)) return "click";
    const isDouble = event.timeStamp - this.#tappedAt < DOUBLE_MS;
    this.#tappedAt = event.timeStamp;
    if (event.pointerType === "mouse" || isDouble) this.toggle(this.fromMiddle(event));
    return null;
  }

  #begin() {
    this.#start = { ...this.#middle(), scale: this.scale, left: this.x, top: this.y, moved: 0 };
  }

  /** The middle of all fingers, from the middle of the stage, and how far the first two are apart. */
  #middle() {
    const points = [...this.#points.values()].map((point) => this.fromMiddle(point));
    const sum = points.reduce((one, other) => ({ x: one.x + other.x, y: one.y + other.y }));
    const distance = points.length > 1 ? Math.hypot(points[0].x - points[1].x, points[0].y - points[1].y) : 1;
    return { x: sum.x / points.length, y: sum.y / points.length, distance: Math.max(1, distance) };
  }

  fromMiddle({ clientX, clientY }) {
    const box = this.stage().getBoundingClientRect();
    return { x: clientX - box.left - box.width / 2, y: clientY - box.top - box.height / 2 };
  }

  #keepInside() {
    const [stage, picture] = [this.stage(), this.picture()];
    const most = (size, room) => Math.max(0, (size * this.scale - room) / 2);
    const [x, y] = [most(picture.offsetWidth, stage.clientWidth), most(picture.offsetHeight, stage.clientHeight)];
    this.x = Math.min(Math.max(this.x, -x), x);
    this.y = Math.min(Math.max(this.y, -y), y);
  }
}

/** The zoom of the picture with this id, and the handlers for the stage; `swiped` gets "left", "right" or "click". */
export function useZoom(id, swiped) {
  const [, changed] = useReducer((count) => count + 1, 0);
  const stage = useRef(null);
  const zoom = useRef(null);
  zoom.current ??= new Zoom(
    () => stage.current,
    () => stage.current.querySelector(".large"),
    changed,
  );
  useEffect(() => {
    zoom.current.reset();
    changed();
  }, [id]);
  const lift = (event) => {
    const gesture = zoom.current.up(event);
    if (gesture) swiped(gesture);
  };
  const { scale, x, y, pull } = zoom.current;
  return {
    zoom: zoom.current,
    style: { transform: scale > 1 || pull ? `translate(${x + pull}px, ${y}px) scale(${scale})` : null },
    stage: {
      ref: stage,
      class: scale > 1 ? "stage zoomed" : "stage",
      onPointerDown: (event) => zoom.current.down(event),
      onPointerMove: (event) => zoom.current.move(event),
      onPointerUp: lift,
      onPointerCancel: lift,
      onPointerLeave: lift,
      onWheel: (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        zoom.current.zoomTo(zoom.current.scale * Math.exp(-event.deltaY / 200), zoom.current.fromMiddle(event));
      },
    },
  };
}
