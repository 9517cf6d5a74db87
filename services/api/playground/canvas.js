// The canvas: a card for each request in progress, and for those that have just completed or failed.

import * as form from "./form.js";
import { Frame } from "./frame.js";
import { icon } from "./icons.js";
import { Line } from "./line.js";
import { grouped, isFinal } from "./pictures.js";
import { html, useEffect, useRef } from "./vendor/htm-preact.js";
import * as words from "./words.js";

const IN_WORK_SHOWN = 6; // the rest is in the list of what waits
const FAILED_SHOWN = 3;
const GOOD_RATIO = 1.3; // of a card with several pictures
const STATES = { queued: "Waiting", running: "Painting", completed: "Done", failed: "Failed" };

/** In the order of the requests: what is in work is before what waits for it, and a card never changes places. */
export function Canvas({ session, open, reuse, compare }) {
  const { pictures, orders, history } = session;
  const cards = grouped(pictures.onCanvas().reverse());
  const line = cards.filter((images) => !images.every(isFinal)).slice(IN_WORK_SHOWN);
  const failed = cards.filter(([{ status }]) => status === "failed");
  const hidden = new Set([...line, ...failed.slice(0, -FAILED_SHOWN)]);
  const shown = cards.filter((images) => !hidden.has(images));
  const done = shown.flat().filter(({ status }) => status === "completed");
  /** A picture with the one before it, or the first one with that after it; of a batch, the first two. */
  const compareWith = (images) => {
    const at = done.indexOf(images[0]);
    if (done.length < 2 || at < 0) return null;
    const pair = images.length > 1 ? images.slice(0, 2) : at ? [done[at - 1], done[at]] : done.slice(0, 2);
    return () => compare(pair.map(({ id }) => id));
  };
  const sending = orders.waiting;
  const [newest] = pictures.inGallery();
  // without any work it shows the newest picture: so the next request finds its place, and moves nothing
  const isIdle = !cards.length && !orders.sending.length && !session.isCanvasCleared;
  if (isIdle && history.isLoaded && newest) shown.push([newest]);
  const number = shown.length + sending.length;
  const strip = useRef(null);
  useScrolling(strip, shown.find((images) => !images.every(isFinal))?.[0].id);
  // a request that was just sent keeps its place free, before it has a card
  if (!number && !orders.sending.length) return html`<section id="canvas" hidden></section>`;
  return html`
    <section id="canvas" aria-labelledby="canvas-title">
      <div class="heading">
        <h2 id="canvas-title">Canvas</h2>
        ${line.length > 0 && html`<${Line} session=${session} cards=${line} />`}
        ${
          failed.length > 1 &&
          html`
          <button class="quiet" onClick=${() => session.dismissAll(failed.flat())}>
            Clear ${failed.length} failed
          </button>
        `
        }
      </div>
      <div class=${`cards ${number > 1 ? "several" : "single"}`} ref=${strip}>
        ${shown.map(
          (images) => html`
            <${Card}
              key=${images.length > 1 ? `batch ${images[0].batch.id}` : images[0].id}
              session=${session}
              images=${images}
              open=${open}
              reuse=${reuse}
              compare=${compareWith(images)}
            />
          `,
        )}
        ${sending.map(
          (order) => html`<${Sending} key=${order.key} order=${order} giveUp=${() => orders.giveUp(order.key)} />`,
        )}
      </div>
    </section>
  `;
}

/** Scrolls the row of cards, not the page, so that the image in work is on the screen. */
function useScrolling(strip, id) {
  useEffect(() => {
    const row = strip.current;
    const card = id && row?.querySelector(`[data-id="${id}"]`);
    if (!card) return;
    const [from, to] = [row.getBoundingClientRect(), card.getBoundingClientRect()];
    if (to.left >= from.left && to.right <= from.right) return;
    const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
    row.scrollTo({ left: row.scrollLeft + to.left - from.left - 16, behavior });
  }, [id]);
}

/** One image, or those of a batch. */
function Card({ session, images, open, reuse, compare }) {
  const [image] = images;
  const isBatch = images.length > 1;
  const shape = shapeOf(image, images.length);
  const frames = images.map((each) => html`<${Frame} key=${each.id} session=${session} image=${each} open=${open} />`);
  const status = ["running", "queued"].find((one) => images.some((each) => each.status === one)) ?? image.status;
  const done = images.filter(isFinal).length;
  const tally = `${done} of ${images.length} done`;
  return html`
    <article
      class=${`card ${status}`}
      data-id=${image.id}
      style=${{ "--ratio": ratioOf(shape) }}
      aria-label=${`${STATES[status]}: ${words.brief(image.prompt)}${isBatch ? `, ${tally}` : ""}`}
    >
      ${isBatch ? html`<div class="frames" style=${{ "--columns": shape.columns }}>${frames}</div>` : frames}
      <div class="caption">
        <p class="prompt" dir="auto" title=${image.prompt}>${image.prompt}</p>
        <p class="making">${making(images, session.allowance.offers)}</p>
        <div class="actions">
          ${isBatch && done < images.length && html`<span class="value">${tally}</span>`}
          <${Actions} ...${{ session, images, reuse, compare }} />
        </div>
      </div>
    </article>
  `;
}

/** How pictures of one size are laid out as one: with few empty places, and neither wide nor tall. */
function shapeOf({ width, height }, number) {
  const shapes = Array.from({ length: number }, (_, at) => {
    const [columns, rows] = [at + 1, Math.ceil(number / (at + 1))];
    const shape = { columns, rows, width, height };
    const isOff = Math.abs(Math.log(ratioOf(shape) / GOOD_RATIO));
    return { ...shape, cost: isOff + 0.3 * (columns * rows - number) };
  });
  return shapes.reduce((best, shape) => (shape.cost < best.cost ? shape : best));
}

const ratioOf = ({ columns, rows, width, height }) => (columns * width) / (rows * height);

/** The settings of the pictures; shown if the card has room. */
function making(images, offers) {
  const [{ width, height, modelUsed, parameters }] = images;
  const { steps, cfgScale, sampler, seed } = parameters ?? {};
  const size = `${width} × ${height}`;
  if (!parameters) return size;
  const isBatch = images.length > 1;
  const settings = [
    size,
    words.count(steps, "step"),
    `CFG ${cfgScale}`,
    sampler,
    isBatch ? `seeds ${seed} to ${images.at(-1).parameters?.seed}` : `seed ${seed}`,
    form.modelName(offers, modelUsed),
  ];
  return [...(isBatch ? [words.count(images.length, "picture")] : []), ...settings].join(" · ");
}

function Actions({ session, images, reuse, compare }) {
  const [image] = images;
  const unfinished = images.filter((each) => !isFinal(each));
  if (unfinished.length) {
    const name = unfinished.length < images.length ? "Cancel the rest" : "Cancel";
    return html`<button class="quiet" onClick=${() => session.cancel(unfinished)}>${name}</button>`;
  }
  const putAway = html`
    <button
      class="quiet bare"
      aria-label="Remove from canvas"
      title="Remove from canvas"
      onClick=${() => session.dismissAll(images)}
    >
      ${icon("close")}
    </button>
  `;
  if (image.status === "failed") {
    return html`
      <button class="quiet" onClick=${() => session.reorder(images)}>Try again</button>
      <button class="quiet" onClick=${() => reuse(image)}>Use settings</button>
      ${putAway}
    `;
  }
  return html`
    ${
      // a page of the history does not hold the settings
      image.parameters &&
      html`
      <button class="quiet bare" aria-label="Use settings" title="Use these settings" onClick=${() => reuse(image)}>
        ${icon("reuse")}<span class="label">Use settings</span>
      </button>
    `
    }
    ${
      compare &&
      html`
      <button
        class="quiet bare"
        aria-label="Compare"
        title=${images.length > 1 ? "Compare the first two" : "Compare with the picture beside it"}
        onClick=${compare}
      >
        ${icon("compare")}<span class="label">Compare</span>
      </button>
    `
    }
    <${Download} session=${session} images=${images} /> ${putAway}
  `;
}

function Download({ session, images }) {
  if (images.length > 1) {
    const name = `Download all ${images.length}`;
    const download = () => session.downloadAll(images.map(({ id }) => id));
    return html`
      <button class="quiet bare" aria-label=${name} title=${`${name}, as a zip file`} onClick=${download}>
        ${icon("download")}<span class="label">${name}</span>
      </button>
    `;
  }
  return html`
    <a
      class="quiet bare"
      href=${words.downloadUrl(images[0])}
      download=${""}
      aria-label="Download"
      title="Download"
    >
      ${icon("download")}<span class="label">Download</span>
    </a>
  `;
}

/** A request without an answer so far. */
function Sending({ order: { request, tries, isUnreachable }, giveUp }) {
  const shape = shapeOf(request, request.numImages);
  const reason = isUnreachable ? "The server cannot be reached" : "The server is busy";
  return html`
    <article
      class="card sending"
      style=${{ "--ratio": ratioOf(shape) }}
      aria-label=${`Sending: ${words.brief(request.prompt)}`}
    >
      <div class="frame">
        <div class="state">
          <span class="dots" aria-hidden="true"><i></i><i></i><i></i></span>
          <p>${tries ? reason : "Sending the request"}</p>
          ${tries > 0 && html`<small>It is sent once, as soon as the server responds.</small>`}
        </div>
      </div>
      <div class="caption">
        <p class="prompt" dir="auto">${request.prompt}</p>
        <div class="actions"><button class="quiet" onClick=${giveUp}>Stop trying</button></div>
      </div>
    </article>
  `;
}
