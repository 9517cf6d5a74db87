// The gallery: thumbnails of all completed pictures, newest first; more are loaded on scrolling.
//
// Only one picture is a tab stop: the arrow keys move, Enter opens, Delete deletes.

import { icon } from "./icons.js";
import { sources } from "./renditions.js";
import { Component, html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import * as words from "./words.js";

const ROWS = [112, 140, 172]; // as --row in page.css
const MOST_GROWN = 1.4; // tiles grow until their row is full
const GLIDE_MS = 280;
const AHEAD = "900px"; // about a screen: the next page is loaded before it is scrolled into view
const IDEAS = [
  "a lighthouse at dusk, stormy sea",
  "a fox in an autumn forest, golden light",
  "a red sailing boat on a calm lake, misty dawn",
  "neon city in the rain at night",
];

export function Gallery({ session, open, tryOut }) {
  const { pictures, history } = session;
  const images = pictures.inGallery();
  const isEmpty = history.isLoaded && !images.length && !pictures.hasMore;
  const total = pictures.total - pictures.hidden.size;
  return html`
    <section id="gallery" aria-labelledby="gallery-title" aria-busy=${String(!history.isLoaded)}>
      <h2 id="gallery-title">
        Gallery ${total > 0 && html`<span class="value">${words.count(total, "picture")}</span>`}
      </h2>
      ${images.length > 0 && html`<${Grid} images=${images} session=${session} open=${open} />`}
      ${isEmpty && html`<${Empty} isAlone=${!pictures.canvas.length} tryOut=${tryOut} />`}
      ${
        history.hasFailed
          ? html`
            <p class="more">
              The ${history.isLoaded ? "older pictures" : "pictures"} could not be loaded.
              <button class="quiet" onClick=${() => history.retry()}>Try again</button>
            </p>
          `
          : pictures.hasMore && html`<${More} history=${history} loaded=${pictures.gallery.length} />`
      }
    </section>
  `;
}

function Grid({ images, session, open }) {
  const list = useRef(null);
  const [chosen, setChosen] = useState(null);
  const current = images.some(({ id }) => id === chosen) ? chosen : images[0].id;
  const moves = useRef(null);
  moves.current = {
    open,
    choose: setChosen,
    renew: (image) => session.renew(image.id, image.thumbnailUrl),
  };

  const focus = (tile) => {
    if (!tile) return;
    setChosen(tile.dataset.id);
    tile.focus();
  };
  const pressed = (event) => {
    const tile = event.target.closest("button");
    const tiles = [...list.current.querySelectorAll("button")];
    if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Delete") {
      const at = tiles.indexOf(tile);
      session.delete(tile.dataset.id);
      focus(tiles[at + 1] ?? tiles[at - 1]);
    } else {
      const next = neighbour(tiles, tile, event.key);
      if (next === undefined) return;
      focus(next);
    }
    event.preventDefault();
  };

  return html`
    <p id="gallery-keys" class="unseen">
      Use the arrow keys to move between pictures, Enter to open one, Delete to delete it.
    </p>
    <${Flow} images=${images} list=${list} pressed=${pressed}>
      ${images.map(
        (image) => html`<${Tile} key=${image.id} image=${image} isCurrent=${image.id === current} moves=${moves} />`,
      )}
    <//>
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

  render({ list, pressed, children }) {
    return html`<ul class="grid" ref=${list} onKeyDown=${pressed} aria-describedby="gallery-keys">${children}</ul>`;
  }
}

function placesOnScreen(list) {
  const places = [...list.children].map((item) => [item, item.getBoundingClientRect()]);
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
  shouldComponentUpdate({ image, isCurrent }) {
    return image !== this.props.image || isCurrent !== this.props.isCurrent;
  }

  render({ image, isCurrent, moves }) {
    const prompt = words.brief(image.prompt, 160);
    const files = sources(image); // the thumbnail is shown until a larger one is there
    return html`
      <li style=${{ "--ratio": image.width / image.height }}>
        <button
          data-id=${image.id}
          tabindex=${isCurrent ? 0 : -1}
          aria-label=${`${prompt}${image.pinned ? ", pinned" : ""}`}
          onClick=${() => moves.current.open(image.id)}
          onFocus=${() => moves.current.choose(image.id)}
        >
          <img
            loading="lazy"
            decoding="async"
            sizes=${sizesOf(image)}
            ...${files}
            style=${{ backgroundImage: files.srcset ? `url("${image.thumbnailUrl}")` : null }}
            alt=""
            onError=${() => moves.current.renew(image)}
          />
          <span class="tag" dir="auto" aria-hidden="true">${prompt}</span>
          ${image.pinned && html`<span class="pinned" aria-hidden="true">${icon("pin")}</span>`}
        </button>
      </li>
    `;
  }
}

/** How wide a tile is drawn at most. Not "auto": for a tile that is removed, that would load the largest file. */
function sizesOf({ width, height }) {
  const [phone, tablet, desk] = ROWS.map((row) => `${Math.round((MOST_GROWN * row * width) / height)}px`);
  return `(max-width: 760px) ${phone}, (max-width: 1100px) ${tablet}, ${desk}`;
}

function More({ history, loaded }) {
  const mark = useRef(null);
  useEffect(() => {
    const watcher = new IntersectionObserver(([entry]) => entry.isIntersecting && history.more(), {
      rootMargin: AHEAD,
    });
    watcher.observe(mark.current);
    return () => watcher.disconnect();
    // observe again after each page: a mark that stayed on the screen triggers no second call
  }, [loaded]);
  return html`<p class="more" ref=${mark}>Loading older pictures …</p>`;
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
