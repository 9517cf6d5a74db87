// The tiles of the gallery. Hundreds come and go within a second of scrolling, so each has few elements and no listeners:
// the list hears the events of all of them, and the words and the tick are made by the style sheet.

import { icon } from "./icons.js";
import { sources } from "./renditions.js";
import { Component, html } from "./vendor/htm-preact.js";
import * as words from "./words.js";

const MOST_GROWN = 1.4; // tiles grow until their row is full
const LONG_PRESS_MS = 450;
const STILL_PX = 10; // a finger that moves further scrolls

/** What is in the <li> of a picture. */
export class Tile extends Component {
  #picture = null;

  componentWillUnmount() {
    // Chromium keeps an image that has not loaded, with all that refers to it, and looks at each of them in every frame
    if (this.#picture?.complete) return;
    for (const name of ["srcset", "src"]) this.#picture?.removeAttribute(name);
  }

  render({ image, rowHeight, isCurrent, isSelected }) {
    const prompt = words.brief(image.prompt, 160);
    const files = sources(image); // the thumbnail is shown until a larger one is there
    const marks = `${image.pinned ? ", pinned" : ""}${isSelected ? ", selected" : ""}`;
    return html`
        <button
          class="tile"
          data-id=${image.id}
          data-words=${prompt}
          tabindex=${isCurrent ? 0 : -1}
          aria-label=${`${prompt}${marks}`}
        >
          <img
            ref=${this.#keep}
            loading="lazy"
            decoding="async"
            draggable=${false}
            sizes=${files.srcset ? widthOf(image, rowHeight) : null}
            ...${files}
            style=${files.srcset ? `background-image:url("${image.thumbnailUrl}")` : null}
            alt=""
          />
          ${image.pinned && html`<span class="pinned" aria-hidden="true">${icon("pin")}</span>`}
        </button>
        <button class="check" tabindex="-1" aria-hidden="true"></button>
    `;
  }

  #keep = (picture) => {
    if (picture) this.#picture = picture; // Preact calls it with null before `componentWillUnmount`
  };
}

/** How wide a tile is drawn at most. Not "auto": for a tile that is removed, that would load the largest file. */
const widthOf = ({ width, height }, rowHeight) => `${Math.round((MOST_GROWN * rowHeight * width) / height)}px`;

/** Clicks, long presses and the focus on tiles: handlers for the list that holds them. */
export class Presses {
  #moves;
  #timer = 0; // of a long press
  #from = null;
  #wasLong = false;

  /** `moves` refers to {choose, select, clicked, renew}, each called with the id of a picture. */
  constructor(moves) {
    this.#moves = moves;
  }

  handlers = {
    onClick: (event) => this.#clicked(event),
    onFocusCapture: ({ target }) => target.dataset.id && this.#moves.current.choose(target.dataset.id),
    onErrorCapture: ({ target }) => target.matches("img") && this.#moves.current.renew(idAt(target)),
    onPointerDown: (event) => this.#pressed(event),
    onPointerMove: (event) => this.#moved(event),
    onPointerUp: () => clearTimeout(this.#timer),
    onPointerCancel: () => clearTimeout(this.#timer),
    onContextMenu: (event) => this.#wasLong && event.preventDefault(),
  };

  #clicked(event) {
    const id = idAt(event.target);
    if (!id) return;
    if (event.target.matches(".check")) this.#moves.current.select(id);
    else if (!this.#wasLong) this.#moves.current.clicked(event, id);
    this.#wasLong = false;
  }

  /** A finger that rests on a picture selects it. */
  #pressed({ target, pointerType, clientX, clientY }) {
    clearTimeout(this.#timer);
    this.#wasLong = false;
    const id = idAt(target);
    if (pointerType === "mouse" || !id) return;
    this.#from = [clientX, clientY];
    this.#timer = setTimeout(() => {
      this.#wasLong = true;
      this.#moves.current.select(id);
      navigator.vibrate?.(10);
    }, LONG_PRESS_MS);
  }

  #moved({ clientX, clientY }) {
    if (this.#from && Math.hypot(clientX - this.#from[0], clientY - this.#from[1]) > STILL_PX)
      clearTimeout(this.#timer);
  }
}

/** The id of the picture whose tile this element belongs to. */
const idAt = (element) => element.closest("li")?.querySelector("[data-id]").dataset.id;
