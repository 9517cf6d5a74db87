// Where each picture of the gallery is: days, and in each of them rows that fill the width. No network, no DOM.
//
// Only the pictures near the screen are in the document, so nothing but this knows where the others are.

import * as words from "./words.js";

export const HEADING = 36; // height of the heading of a day, with the gap below it
const BETWEEN = 20; // between two days

export const NO_LAYOUT = { images: [], days: [], places: new Map(), height: 0, size: null };

/**
 * The layout of these pictures, newest first, for `size` {width, row, gap}. What is the same as in the layout before is
 * taken from there: when a page is appended, only its pictures are laid out.
 */
export function layoutOf(images, size, before = NO_LAYOUT) {
  if (images === before.images && size === before.size) return before;
  const same = size === before.size ? sameUntil(images, before.images) : 0;
  const days = before.days.slice(0, size === before.size ? dayAt(before.days, same - 1) : 0);
  const places = same > 0 && same === before.images.length ? before.places : new Map();
  for (let at = places.size; at < images.length; at += 1) places.set(images[at].id, at);
  const cut = before.days[days.length];
  const kept = cut && size === before.size ? cut.rows.filter((row) => row.to < same) : [];
  let last = days.at(-1);
  for (let from = last?.to ?? 0; from < images.length; from = last.to) {
    const [start, end] = words.dayOf(images[from].createdAt);
    let to = from + 1;
    while (to < images.length && images[to].createdAt >= start && images[to].createdAt < end) to += 1;
    const top = last ? last.top + last.height + BETWEEN : 0;
    last = dayWith(images, { from, to, start, top }, size, from === cut?.from ? kept : []);
    days.push(last);
  }
  return { images, days, places, size, height: last ? last.top + last.height : 0 };
}

/** How many pictures at the beginning of both are the same. */
function sameUntil(images, before) {
  const most = Math.min(images.length, before.length);
  let at = 0;
  while (at < most && (images[at] === before[at] || images[at].id === before[at].id)) at += 1;
  return at;
}

function dayWith(images, day, size, kept) {
  const rows = [...kept];
  const after = (row) => (row ? row.top + row.height + size.gap : 0);
  for (let from = rows.at(-1)?.to ?? day.from; from < day.to; from = rows.at(-1).to) {
    const [to, height] = rowFrom(images, from, day.to, size);
    rows.push({ from, to, top: after(rows.at(-1)), height });
  }
  return { ...day, rows, height: HEADING + after(rows.at(-1)) - size.gap };
}

/** Where the row ends and its height: with one picture more or less, whichever is nearer to the height wanted. */
function rowFrom(images, from, end, { width, row, gap }) {
  const heightOf = (ratios, number) => (width - gap * (number - 1)) / ratios;
  let ratios = 0;
  for (let to = from; to < end; to += 1) {
    const next = ratios + ratioOf(images[to]);
    const height = heightOf(next, to + 1 - from);
    if (height <= row) {
      const isFuller = to > from && heightOf(ratios, to - from) / row < row / height;
      return isFuller ? [to, heightOf(ratios, to - from)] : [to + 1, height];
    }
    ratios = next;
  }
  return [end, row]; // the last row of a day need not be full
}

const ratioOf = ({ width, height }) => width / height;

/** The tiles of a row: {at, left, width}. */
export function* tilesOf({ images, size }, row) {
  let left = 0;
  for (let at = row.from; at < row.to; at += 1) {
    const width = ratioOf(images[at]) * row.height;
    yield { at, left, width };
    left += width + size.gap;
  }
}

/** The days between two heights, each with its rows between them. A picture named by `also` is among them anyway. */
export function* between(layout, from, to, also) {
  const { days } = layout;
  const kept = dayAt(days, also);
  const first = firstBelow(days, from);
  if (kept < first && days[kept]) yield { day: days[kept], rows: [rowOf(days[kept], also)] };
  for (let number = first; number < days.length && days[number].top <= to; number += 1) {
    yield { day: days[number], rows: rowsBetween(days[number], from, to, number === kept ? also : null) };
  }
  if (kept >= first && days[kept]?.top > to) yield { day: days[kept], rows: [rowOf(days[kept], also)] };
}

function rowsBetween(day, from, to, also) {
  const above = day.top + HEADING;
  const first = firstBelow(day.rows, from - above);
  let end = first;
  while (end < day.rows.length && day.rows[end].top <= to - above) end += 1;
  const rows = day.rows.slice(first, end);
  const kept = also === null ? null : rowOf(day, also);
  if (!kept || rows.includes(kept)) return rows;
  return kept.top < (rows[0]?.top ?? 0) ? [kept, ...rows] : [...rows, kept];
}

/** The picture that an arrow leads to; null at the edge, undefined for other keys. */
export function neighbour(layout, at, key) {
  const last = layout.images.length - 1;
  if (key === "ArrowRight") return at < last ? at + 1 : null;
  if (key === "ArrowLeft") return at > 0 ? at - 1 : null;
  if (key === "Home") return 0;
  if (key === "End") return last;
  if (key !== "ArrowDown" && key !== "ArrowUp") return undefined;
  const row = rowAt(layout, at);
  const next = key === "ArrowDown" ? rowAt(layout, row.to) : rowAt(layout, row.from - 1);
  if (!next) return null;
  const middle = ({ left, width }) => left + width / 2;
  const from = middle([...tilesOf(layout, row)][at - row.from]);
  const distance = (tile) => Math.abs(middle(tile) - from);
  return [...tilesOf(layout, next)].reduce((best, tile) => (distance(tile) < distance(best) ? tile : best)).at;
}

/** The height at which a picture begins. */
export function topOf(layout, at) {
  const day = layout.days[dayAt(layout.days, at)];
  return day.top + HEADING + rowOf(day, at).top;
}

const rowAt = ({ images, days }, at) => (at >= 0 && at < images.length ? rowOf(days[dayAt(days, at)], at) : null);

const rowOf = (day, at) => day.rows[firstWhere(day.rows, (row) => row.to > at)];

/** The number of the day that has this picture; that of the first for none. */
const dayAt = (days, at) => firstWhere(days, (day) => day.to > at);

const firstBelow = (places, height) => firstWhere(places, (place) => place.top + place.height >= height);

/** The first of a sorted list for which the condition is true, as it is for all after it. */
function firstWhere(list, condition) {
  let [from, to] = [0, list.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (condition(list[middle])) to = middle;
    else from = middle + 1;
  }
  return from;
}
