// The gallery: thumbnails of all completed pictures or of those that a search finds, newest first, by days; more are
// loaded on scrolling.
//
// Only one picture is a tab stop: the arrow keys move, Enter opens, Space selects, Delete deletes.

import { Finder } from "./finder.js";
import { icon } from "./icons.js";
import { between, HEADING, layoutOf, NO_LAYOUT, neighbour, tilesOf } from "./layout.js";
import { Presses, Tile } from "./tiles.js";
import { Component, html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import * as words from "./words.js";

const GLIDE_MS = 280;
const AHEAD = "900px"; // about a screen: the next page is loaded before it is scrolled into view
const AROUND = 700; // pixels above and below the screen where tiles are in the document
const STEP = 140; // pixels to scroll until other tiles are
const IDEAS = [
  "a lighthouse at dusk, stormy sea",
  "a fox in an autumn forest, golden light",
  "a red sailing boat on a calm lake, misty dawn",
  "neon city in the rain at night",
];

export function Gallery({ session, open, compare, tryOut }) {
  const { pictures, history, search, listing } = session;
  const { images } = listing;
  const isReading = !listing.hasFailed && (!history.isLoaded || search.isOpening);
  const isEmpty = listing.isLoaded && !images.length && !listing.hasMore;
  const hasPictures = pictures.gallery.length > 0 || search.isActive;
  return html`
    <section
      id="gallery"
      class=${search.isActive ? "searching" : ""}
      aria-labelledby="gallery-title" aria-busy=${String(isReading)}>
      <h2 id="gallery-title">
        Gallery
        ${
          (listing.total > 0 || search.isAnswered) &&
          html`<span class="value" role="status">${words.total(listing)} ${listing.total === 1 ? "picture" : "pictures"}</span>`
        }
      </h2>
      ${isReading && !session.needsToken && html`<p class="more late">Loading the pictures …</p>`}
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
          : listing.hasMore && html`<${More} key=${listing.loaded} listing=${listing} />`
      }
    </section>
  `;
}

function Grid({ images, session, open }) {
  const { selection } = session;
  const list = useRef(null);
  const view = useView(list);
  const layout = useLayout(images, view.size);
  const [chosen, setChosen] = useState(null);
  const current = layout.places.get(chosen) ?? 0;
  const focus = useFocus(list, setChosen);
  const idAt = (at) => images[at]?.id;
  const orderOf = () => images.map(({ id }) => id);
  useReveal(session, (id) => layout.places.has(id) && focus(id));

  const moves = useRef(null);
  moves.current = {
    choose: setChosen,
    renew: (id) => session.renew(id, images[layout.places.get(id)]?.thumbnailUrl),
    select: (id) => selection.toggle(id),
    clicked(event, id) {
      if (event.shiftKey && selection.size) selection.extendTo(id, orderOf());
      else if (selection.size || event.shiftKey || event.ctrlKey || event.metaKey) selection.toggle(id);
      else open(id);
    },
  };

  const presses = useRef(null);
  presses.current ??= new Presses(moves);

  const remove = (at) => {
    const isGone = (id) => selection.size > 0 && selection.has(id);
    let next = at + 1;
    while (isGone(idAt(next))) next += 1;
    if (!images[next]) for (next = at - 1; isGone(idAt(next)); ) next -= 1;
    const beside = idAt(next);
    if (selection.size) session.deleteAll([...selection.ids]);
    else session.delete(idAt(at));
    if (beside) focus(beside);
  };
  const moveTo = (next, from) => {
    if (next === null) return;
    if (from !== null) {
      if (!selection.size) selection.toggle(idAt(from));
      selection.extendTo(idAt(next), orderOf());
    }
    focus(idAt(next));
  };
  const pressed = (event) => {
    const tile = event.target.closest("button[data-id]");
    const isAll = event.key === "a" && (event.ctrlKey || event.metaKey);
    if (!tile || (!isAll && (event.ctrlKey || event.metaKey || event.altKey))) return;
    const at = layout.places.get(tile.dataset.id);
    const actions = {
      a: isAll && (() => selection.toggleAll(orderOf())),
      " ": () => moves.current.select(idAt(at)),
      Escape: selection.size > 0 && (() => selection.clear()),
      Delete: () => remove(at),
    };
    const next = actions[event.key] ? undefined : neighbour(layout, at, event.key);
    if (actions[event.key]) actions[event.key]();
    else if (next === undefined) return;
    else moveTo(next, event.shiftKey ? at : null);
    event.preventDefault();
  };

  return html`
    <p id="gallery-keys" class="unseen">
      Use the arrow keys to move between pictures, Enter to open one, Space to select it, Delete to delete it.
    </p>
    <${Flow}
      layout=${layout}
      list=${list}
      handlers=${{ ...presses.current.handlers, onKeyDown: pressed }}
      isSelecting=${selection.size > 0}
    >
      ${[...between(layout, view.from, view.to, current)].map(
        ({ day, rows }) => html`
          <${Day} key=${day.start} day=${day} rows=${rows} layout=${layout} current=${current} selection=${selection} />
        `,
      )}
    <//>
  `;
}

function Day({ day, rows, layout, current, selection }) {
  return html`
    <section class="day" style=${{ top: px(day.top), height: px(day.height) }}>
      <${Heading} day=${day} images=${layout.images} selection=${selection} />
      <ul class="grid" aria-describedby="gallery-keys" style=${{ height: px(day.height - HEADING) }}>
        ${useItems(day, rows, layout, current, selection)}
      </ul>
    </section>
  `;
}

/** The <li> of each picture in these rows. One that nothing changed for is the same object as before: Preact skips it. */
function useItems({ from, to }, rows, layout, current, selection) {
  const before = useRef(new Map());
  const items = new Map();
  for (const row of rows) {
    for (const { at, left, width } of tilesOf(layout, row)) {
      const image = layout.images[at];
      const shown = [image, row, at, from, to, at === current, selection.has(image.id)];
      const last = before.current.get(image.id);
      if (last && shown.every((value, number) => value === last.shown[number])) items.set(image.id, last);
      else items.set(image.id, { shown, item: itemOf(shown, left, width, layout.size) });
    }
  }
  before.current = items;
  return [...items.values()].map(({ item }) => item);
}

function itemOf([image, row, at, from, to, isCurrent, isSelected], left, width, size) {
  return html`
    <li
      key=${image.id}
      class=${isSelected ? "selected" : ""}
      style=${`left:${px(left)};top:${px(row.top)};width:${px(width)};height:${px(row.height)}`}
      aria-posinset=${at - from + 1}
      aria-setsize=${to - from}
    >
      <${Tile} image=${image} rowHeight=${size.row} isCurrent=${isCurrent} isSelected=${isSelected} />
    </li>
  `;
}

const px = (length) => `${Math.round(length * 100) / 100}px`;

/** What of the list is near the screen: {from, to} in its own heights, and its `size`, which changes its layout. */
function useView(list) {
  const [view, setView] = useState({ from: 0, to: 0, size: null });
  const look = useRef(null);
  look.current = (isResized) => {
    const size = isResized ? sizeOf(list.current, view.size) : view.size;
    const top = -list.current.getBoundingClientRect().top;
    const from = Math.floor((top - AROUND) / STEP) * STEP;
    const to = Math.ceil((top + innerHeight + AROUND) / STEP) * STEP;
    if (from !== view.from || to !== view.to || size !== view.size) setView({ from, to, size });
  };
  useLayoutEffect(() => {
    const scrolled = () => look.current(false);
    const watcher = new ResizeObserver(() => look.current(true));
    look.current(true);
    watcher.observe(list.current);
    addEventListener("scroll", scrolled, { passive: true });
    return () => {
      watcher.disconnect();
      removeEventListener("scroll", scrolled);
    };
  }, []);
  const rendered = useRef(view);
  useLayoutEffect(() => {
    // what is above it may have another height now; not after a scroll, when all would be laid out once more
    if (rendered.current === view) look.current(false);
    rendered.current = view;
  });
  return view;
}

function sizeOf(list, before) {
  const { clientWidth: width } = list;
  const style = getComputedStyle(list);
  const [row, gap] = [style.getPropertyValue("--row"), style.getPropertyValue("--gap")].map(Number.parseFloat);
  return before?.width === width && before.row === row && before.gap === gap ? before : { width, row, gap };
}

function useLayout(images, size) {
  const layout = useRef(NO_LAYOUT);
  layout.current = size ? layoutOf(images, size, layout.current) : { ...NO_LAYOUT, images };
  return layout.current;
}

/** Focuses the tile of a picture, which may have to be rendered first. */
function useFocus(list, setChosen) {
  const wanted = useRef(null);
  const tileOf = (id) => list.current?.querySelector(`button[data-id="${id}"]`);
  useLayoutEffect(() => {
    const tile = wanted.current && tileOf(wanted.current);
    if (!tile) return;
    wanted.current = null;
    tile.focus();
  });
  return (id) => {
    setChosen(id);
    const tile = tileOf(id);
    wanted.current = tile ? null : id;
    tile?.focus();
  };
}

/** The viewer shows where its last picture is. */
function useReveal(session, reveal) {
  const latest = useRef(reveal);
  latest.current = reveal;
  useEffect(() => {
    session.reveal = (id) => latest.current(id);
    return () => {
      session.reveal = () => {};
    };
  }, [session]);
}

function Heading({ day, images, selection }) {
  let at = day.from;
  while (at < day.to && selection.has(images[at].id)) at += 1;
  const areSelected = at === day.to;
  const name = words.dayName(images[day.from].createdAt);
  const select = () => selection.toggleAll(images.slice(day.from, day.to).map(({ id }) => id));
  return html`
    <h3>
      ${name}
      <button
        class="quiet pick"
        aria-pressed=${String(areSelected)}
        aria-label=${`Select all of ${name}`}
        onClick=${select}
      >
        ${icon("check")} ${areSelected ? "Selected" : "Select all"}
      </button>
    </h3>
  `;
}

/**
 * The list of the tiles. When a picture comes or goes, the tiles on the screen glide to their new places instead of
 * jumping. Further down, the page scrolls along, so that the first tile on the screen stays where it is.
 */
class Flow extends Component {
  getSnapshotBeforeUpdate({ layout }) {
    const { images, size } = this.props.layout;
    const isSame = layout.size !== size || images === layout.images || layout.images.every(isAt(images));
    const list = this.props.list.current;
    return { focused: focusedIn(list), before: isSame ? null : placesOnScreen(list) };
  }

  componentDidUpdate(_props, _state, { focused, before }) {
    const { list } = this.props;
    // Preact moves a tile that many others are inserted before, and so takes the focus from it
    if (focused?.isConnected && document.activeElement === document.body) focused.focus({ preventScroll: true });
    if (!before?.size) return;
    const [anchor] = [...before.keys()].filter((item) => item.isConnected);
    const drift = anchor ? anchor.getBoundingClientRect().top - before.get(anchor).top : 0;
    if (drift && list.current.getBoundingClientRect().top < 0) scrollBy({ top: drift, behavior: "instant" });
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const [item, from] of before) {
      const to = item.getBoundingClientRect();
      const [dx, dy] = [from.left - to.left, from.top - to.top];
      if (!item.isConnected || (Math.abs(dx) < 1 && Math.abs(dy) < 1)) continue;
      item.animate({ transform: [`translate(${dx}px, ${dy}px)`, "none"] }, { duration: GLIDE_MS, easing: "ease-out" });
    }
  }

  render({ layout, list, handlers, isSelecting, children }) {
    return html`
      <div
        class=${isSelecting ? "days selecting" : "days"}
        ref=${list}
        style=${{ height: px(layout.height) }}
        ...${handlers}
      >
        ${children}
      </div>
    `;
  }
}

/** Whether the picture has the same place in another list: nothing moves if that is so for all. */
const isAt = (images) => (image, at) => images[at] === image || images[at]?.id === image.id;

const focusedIn = (list) => (list?.contains(document.activeElement) ? document.activeElement : null);

function placesOnScreen(list) {
  const places = [...list.querySelectorAll("li")].map((item) => [item, item.getBoundingClientRect()]);
  return new Map(places.filter(([, box]) => box.bottom > 0 && box.top < innerHeight));
}

/** A new one for each page: one that was moved down would be a layout shift, and it observes the screen afresh. */
function More({ listing }) {
  const mark = useRef(null);
  useEffect(() => {
    const watcher = new IntersectionObserver(([entry]) => entry.isIntersecting && listing.more(), {
      rootMargin: AHEAD,
    });
    watcher.observe(mark.current);
    return () => watcher.disconnect();
  }, []);
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
