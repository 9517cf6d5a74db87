// The gallery: thumbnails of all completed pictures or of those that a search finds, newest first, by days; more are
// loaded on scrolling.
//
// Only one picture is a tab stop: the arrow keys move, Enter opens, Space selects, Delete deletes.

import { Finder } from "./finder.js";
import { icon } from "./icons.js";
import { sources } from "./renditions.js";
import { Component, html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import * as words from "./words.js";

const ROWS = [112, 140, 172]; // as --row in gallery.css
const MOST_GROWN = 1.4; // tiles grow until their row is full
const GLIDE_MS = 280;
const AHEAD = "900px"; // about a screen: the next page is loaded before it is scrolled into view
const LONG_PRESS_MS = 450;
const STILL_PX = 10; // a finger that moves further scrolls
const IDEAS = [
  "a lighthouse at dusk, stormy sea",
  "a fox in an autumn forest, golden light",
  "a red sailing boat on a calm lake, misty dawn",
  "neon city in the rain at night",
];

export function Gallery({ session, open, compare, tryOut }) {
  const { pictures, history, search, listing } = session;
  const { images } = listing;
  const isRead = history.isLoaded && !search.isOpening;
  const isEmpty = listing.isLoaded && !images.length && !listing.hasMore;
  const hasPictures = pictures.gallery.length > 0 || search.isActive;
  return html`
    <section
      id="gallery"
      class=${search.isActive ? "searching" : ""}
      aria-labelledby="gallery-title" aria-busy=${String(!isRead)}>
      <h2 id="gallery-title">
        Gallery
        ${
          (listing.total > 0 || search.isAnswered) &&
          html`<span class="value" role="status">${words.total(listing)} ${listing.total === 1 ? "picture" : "pictures"}</span>`
        }
      </h2>
      ${hasPictures && html`<${Finder} session=${session} compare=${compare} />`}
      ${images.length > 0 && html`<${Grid} images=${images} session=${session} open=${open} />`}
      ${isEmpty && search.isAnswered && html`<${NoMatch} search=${search} />`}
      ${isEmpty && !search.isActive && html`<${Empty} isAlone=${!pictures.canvas.length} tryOut=${tryOut} />`}
      ${
        listing.hasFailed
          ? html`
            <p class="more">
              The ${listing.isLoaded ? "older pictures" : "pictures"} could not be loaded.
              <button class="quiet" onClick=${() => listing.retry()}>Try again</button>
            </p>
          `
          : listing.hasMore && html`<${More} listing=${listing} loaded=${listing.loaded} />`
      }
    </section>
  `;
}

function Grid({ images, session, open }) {
  const { selection } = session;
  const list = useRef(null);
  const [chosen, setChosen] = useState(null);
  const current = images.some(({ id }) => id === chosen) ? chosen : images[0].id;
  const order = images.map(({ id }) => id);
  const moves = useRef(null);
  moves.current = {
    choose: setChosen,
    renew: (image) => session.renew(image.id, image.thumbnailUrl),
    select: (id) => selection.toggle(id),
    clicked(event, id) {
      if (event.shiftKey && selection.size) selection.extendTo(id, order);
      else if (selection.size || event.shiftKey || event.ctrlKey || event.metaKey) selection.toggle(id);
      else open(id);
    },
  };

  const focus = (tile) => {
    if (!tile) return;
    setChosen(tile.dataset.id);
    tile.focus();
  };
  const remove = (tiles, tile) => {
    const isGone = (other) => selection.size > 0 && selection.has(other.dataset.id);
    const rest = tiles.filter((other) => other === tile || !isGone(other));
    const at = rest.indexOf(tile);
    const next = rest[at + 1] ?? rest[at - 1];
    if (selection.size) session.deleteAll([...selection.ids]);
    else session.delete(tile.dataset.id);
    focus(next);
  };
  const pressed = (event) => {
    const tile = event.target.closest("button[data-id]");
    const tiles = [...list.current.querySelectorAll("button[data-id]")];
    const isAll = event.key === "a" && (event.ctrlKey || event.metaKey);
    if (!tile || (!isAll && (event.ctrlKey || event.metaKey || event.altKey))) return;
    const actions = {
      a: isAll && (() => selection.toggleAll(order)),
      " ": () => moves.current.select(tile.dataset.id),
      Escape: selection.size > 0 && (() => selection.clear()),
      Delete: () => remove(tiles, tile),
    };
    const next = actions[event.key] ? undefined : neighbour(tiles, tile, event.key);
    if (actions[event.key]) actions[event.key]();
    else if (next === undefined) return;
    else moveTo(next, event.shiftKey && tile);
    event.preventDefault();
  };
  const moveTo = (next, from) => {
    if (from && next) {
      if (!selection.size) selection.toggle(from.dataset.id);
      selection.extendTo(next.dataset.id, order);
    }
    focus(next);
  };

  return html`
    <p id="gallery-keys" class="unseen">
      Use the arrow keys to move between pictures, Enter to open one, Space to select it, Delete to delete it.
    </p>
    <${Flow} images=${images} list=${list} pressed=${pressed} isSelecting=${selection.size > 0}>
      ${daysOf(images).map(
        ({ name, images }) => html`
          <section class="day" key=${name}>
            <${Heading} name=${name} images=${images} selection=${selection} />
            <ul class="grid" aria-describedby="gallery-keys">
              ${images.map(
                (image) => html`
                  <${Tile}
                    key=${image.id}
                    image=${image}
                    isCurrent=${image.id === current}
                    isSelected=${selection.has(image.id)}
                    moves=${moves}
                  />
                `,
              )}
            </ul>
          </section>
        `,
      )}
    <//>
  `;
}

/** The pictures by the days of this browser, in their order. */
function daysOf(images) {
  const days = [];
  for (const image of images) {
    const name = words.dayName(image.createdAt);
    if (days.at(-1)?.name !== name) days.push({ name, images: [] });
    days.at(-1).images.push(image);
  }
  return days;
}

function Heading({ name, images, selection }) {
  const ids = images.map(({ id }) => id);
  const areSelected = ids.every((id) => selection.has(id));
  return html`
    <h3>
      ${name}
      <button
        class="quiet pick"
        aria-pressed=${String(areSelected)}
        aria-label=${`Select all of ${name}`}
        onClick=${() => selection.toggleAll(ids)}
      >
        ${icon("check")} ${areSelected ? "Selected" : "Select all"}
      </button>
    </h3>
  `;
}

/** The list of the tiles. When one comes or goes, those on the screen glide to their new places instead of jumping. */
class Flow extends Component {
  getSnapshotBeforeUpdate({ images }) {
    const isSame = images.length === this.props.images.length && images[0]?.id === this.props.images[0]?.id;
    if (isSame || matchMedia("(prefers-reduced-motion: reduce)").matches) return null;
    return placesOnScreen(this.props.list.current);
  }

  componentDidUpdate(_props, _state, before) {
    if (!before?.size) return;
    const [anchor] = before.keys();
    // further down the browser scrolls along, so that the first tile on the screen stays where it is
    const isDeep = this.props.list.current.getBoundingClientRect().top < 0;
    const drift = isDeep ? anchor.getBoundingClientRect().top - before.get(anchor).top : 0;
    for (const [item, from] of before) {
      const to = item.getBoundingClientRect();
      const [dx, dy] = [from.left - to.left, from.top - to.top + drift];
      if (!item.isConnected || (Math.abs(dx) < 1 && Math.abs(dy) < 1)) continue;
      item.animate({ transform: [`translate(${dx}px, ${dy}px)`, "none"] }, { duration: GLIDE_MS, easing: "ease-out" });
    }
  }

  render({ list, pressed, isSelecting, children }) {
    return html`
      <div class=${isSelecting ? "days selecting" : "days"} ref=${list} onKeyDown=${pressed}>${children}</div>
    `;
  }
}

function placesOnScreen(list) {
  const places = [...list.querySelectorAll("li")].map((item) => [item, item.getBoundingClientRect()]);
  return new Map(places.filter(([, box]) => box.bottom > 0 && box.top < innerHeight));
}

/** The tile that an arrow leads to; null at the edge, undefined for other keys. */
function neighbour(tiles, tile, key) {
  const at = tiles.indexOf(tile);
  if (key === "ArrowRight") return tiles[at + 1] ?? null;
  if (key === "ArrowLeft") return tiles[at - 1] ?? null;
  if (key === "Home") return tiles[0];
  if (key === "End") return tiles.at(-1);
  if (key !== "ArrowDown" && key !== "ArrowUp") return undefined;
  const from = boxOf(tile);
  const middle = from.left + from.width / 2;
  const places = tiles.map((other) => ({ other, box: boxOf(other) }));
  const isBeyond = key === "ArrowDown" ? (box) => box.top > from.bottom - 1 : (box) => box.bottom < from.top + 1;
  const beyond = places.filter(({ box }) => isBeyond(box));
  if (!beyond.length) return null;
  const row = key === "ArrowDown" ? beyond[0].box.top : beyond.at(-1).box.top;
  const distance = ({ box }) => Math.abs(box.left + box.width / 2 - middle);
  return beyond
    .filter(({ box }) => Math.abs(box.top - row) < 2)
    .reduce((best, place) => (distance(place) < distance(best) ? place : best)).other;
}

/** Where a tile belongs in the list; while it glides there, it is drawn elsewhere. */
function boxOf(tile) {
  const { offsetTop: top, offsetLeft: left, offsetWidth: width, offsetHeight: height } = tile.closest("li");
  return { top, left, width, bottom: top + height };
}

/** Renders only when its own image changes: there may be hundreds of tiles. */
class Tile extends Component {
  #press = 0; // the timer of a long press
  #wasLong = false;

  shouldComponentUpdate({ image, isCurrent, isSelected }) {
    const { props } = this;
    return image !== props.image || isCurrent !== props.isCurrent || isSelected !== props.isSelected;
  }

  componentWillUnmount() {
    clearTimeout(this.#press);
  }

  render({ image, isCurrent, isSelected, moves }) {
    const prompt = words.brief(image.prompt, 160);
    const files = sources(image); // the thumbnail is shown until a larger one is there
    const marks = `${image.pinned ? ", pinned" : ""}${isSelected ? ", selected" : ""}`;
    return html`
      <li style=${{ "--ratio": image.width / image.height }} class=${isSelected ? "selected" : ""}>
        <button
          class="tile"
          data-id=${image.id}
          tabindex=${isCurrent ? 0 : -1}
          aria-label=${`${prompt}${marks}`}
          onClick=${(event) => this.#clicked(event)}
          onFocus=${() => moves.current.choose(image.id)}
          onPointerDown=${(event) => this.#pressed(event)}
          onPointerMove=${(event) => this.#moved(event)}
          onPointerUp=${() => clearTimeout(this.#press)}
          onPointerCancel=${() => clearTimeout(this.#press)}
          onContextMenu=${(event) => this.#wasLong && event.preventDefault()}
        >
          <img
            loading="lazy"
            decoding="async"
            draggable=${false}
            sizes=${sizesOf(image)}
            ...${files}
            style=${{ backgroundImage: files.srcset ? `url("${image.thumbnailUrl}")` : null }}
            alt=""
            onError=${() => moves.current.renew(image)}
          />
          <span class="tag" dir="auto" aria-hidden="true">${prompt}</span>
          ${image.pinned && html`<span class="pinned" aria-hidden="true">${icon("pin")}</span>`}
        </button>
        <button class="check" tabindex="-1" aria-hidden="true" onClick=${() => moves.current.select(image.id)}>
          ${icon("check")}
        </button>
      </li>
    `;
  }

  #clicked(event) {
    if (!this.#wasLong) this.props.moves.current.clicked(event, this.props.image.id);
    this.#wasLong = false;
  }

  /** A finger that rests on a picture selects it. */
  #pressed({ pointerType, clientX, clientY }) {
    clearTimeout(this.#press);
    this.#wasLong = false;
    if (pointerType === "mouse") return;
    this.from = [clientX, clientY];
    this.#press = setTimeout(() => {
      this.#wasLong = true;
      this.props.moves.current.select(this.props.image.id);
      navigator.vibrate?.(10);
    }, LONG_PRESS_MS);
  }

  #moved({ clientX, clientY }) {
    if (this.from && Math.hypot(clientX - this.from[0], clientY - this.from[1]) > STILL_PX) clearTimeout(this.#press);
  }
}

/** How wide a tile is drawn at most. Not "auto": for a tile that is removed, that would load the largest file. */
function sizesOf({ width, height }) {
  const [phone, tablet, desk] = ROWS.map((row) => `${Math.round((MOST_GROWN * row * width) / height)}px`);
  return `(max-width: 760px) ${phone}, (max-width: 1100px) ${tablet}, ${desk}`;
}

function More({ listing, loaded }) {
  const mark = useRef(null);
  useEffect(() => {
    const watcher = new IntersectionObserver(([entry]) => entry.isIntersecting && listing.more(), {
      rootMargin: AHEAD,
    });
    watcher.observe(mark.current);
    return () => watcher.disconnect();
    // observe again after each page: a mark that stayed on the screen triggers no second call
  }, [loaded]);
  return html`<p class="more" ref=${mark}>Loading older pictures …</p>`;
}

function NoMatch({ search }) {
  const { q } = search.filter;
  return html`
    <div class="empty">
      <p>${q.trim() ? html`No picture matches <q dir="auto">${q.trim()}</q>.` : "No picture matches these filters."}</p>
      <p class="soft">
        ${
          q.trim()
            ? "All words have to be in the prompt; the beginning of a word is enough."
            : "Choose another model or time, or look at all pictures."
        }
      </p>
      <button class="chip" onClick=${() => search.clear()}>Show all pictures</button>
    </div>
  `;
}

function Empty({ isAlone, tryOut }) {
  if (!isAlone) return html`<p class="more">Your pictures appear here.</p>`;
  return html`
    <div class="empty">
      <p>Nothing here yet.</p>
      <p class="soft">Describe a picture and press Generate, or start with one of these:</p>
      <ul>
        ${IDEAS.map(
          (idea) => html`
            <li key=${idea}><button class="chip" onClick=${() => tryOut(idea)}>${idea}</button></li>
          `,
        )}
      </ul>
    </div>
  `;
}
