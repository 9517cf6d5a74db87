// The canvas: a card for each image in progress, and for those that have just completed or failed.

import * as form from "./form.js";
import { icon } from "./icons.js";
import { isFinal } from "./pictures.js";
import { sources } from "./renditions.js";
import { html, useEffect, useReducer, useRef } from "./vendor/htm-preact.js";
import * as words from "./words.js";

const IN_WORK_SHOWN = 6; // for the rest, only their number is shown
const FAILED_SHOWN = 3;
const BRIEF = 80; // characters of a reason that is shown whole

/** In the order of the requests: the image in work is before those that wait for it, and a card never changes places. */
export function Canvas({ session, open, reuse, compare }) {
  const { pictures, orders, history } = session;
  const cards = pictures.onCanvas().reverse();
  const waiting = cards.filter((image) => !isFinal(image)).slice(IN_WORK_SHOWN);
  const failed = cards.filter(({ status }) => status === "failed");
  const hidden = new Set([...waiting, ...failed.slice(0, -FAILED_SHOWN)]);
  const shown = cards.filter((image) => !hidden.has(image));
  const done = shown.filter(({ status }) => status === "completed").map(({ id }) => id);
  /** With the picture before it, or the first one with that after it. */
  const compareWith = (id) => {
    const at = done.indexOf(id);
    return done.length > 1 && at >= 0 ? () => compare(at ? [done[at - 1], id] : [id, done[1]]) : null;
  };
  const sending = orders.waiting;
  const [newest] = pictures.inGallery();
  // without any work it shows the newest picture: so the next request finds its place, and moves nothing
  const isIdle = !cards.length && !orders.sending.length && !session.isCanvasCleared;
  if (isIdle && history.isLoaded && newest) shown.push(newest);
  const number = shown.length + sending.length;
  const strip = useRef(null);
  useScrolling(strip, shown.find((image) => !isFinal(image))?.id);
  // a request that was just sent keeps its place free, before it has a card
  if (!number && !orders.sending.length) return html`<section id="canvas" hidden></section>`;
  return html`
    <section id="canvas" aria-labelledby="canvas-title">
      <h2 id="canvas-title">
        Canvas
        ${waiting.length > 0 && html`<span class="value">${waiting.length} more in the queue</span>`}
        ${
          failed.length > 1 &&
          html`
          <button class="quiet" onClick=${() => session.dismissAll(failed)}>
            Clear ${failed.length} failed
          </button>
        `
        }
      </h2>
      <div class=${`cards ${number > 1 ? "several" : "single"}`} ref=${strip}>
        ${shown.map(
          (image) => html`
            <${Card}
              key=${image.id}
              session=${session}
              image=${image}
              open=${open}
              reuse=${reuse}
              compare=${compareWith(image.id)}
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

function Card({ session, image, open, reuse, compare }) {
  // a picture that completes while the page is open fades in; one that was complete before does not
  const wasSeen = useRef(!isFinal(image));
  const parts = {
    queued: () =>
      image.retryAt && image.error
        ? html`<${Delayed} image=${image} place=${session.pictures.placeOf(image)} />`
        : html`<${Waiting} ...${session.pictures.waitOf(image)} />`,
    running: () => html`<${Painting} image=${image} />`,
    completed: () => html`
      <${Done} session=${session} image=${image} isFresh=${wasSeen.current} open=${open} />
    `,
    failed: () => html`<${Failed} image=${image} />`,
  };
  const ratio = image.width / image.height;
  return html`
    <article
      class=${`card ${image.status}`}
      data-id=${image.id}
      style=${{ "--ratio": ratio }}
      aria-label=${`${STATES[image.status]}: ${words.brief(image.prompt)}`}
    >
      <div class="frame">
        ${image.preview && wasSeen.current && html`<img class="preview" src=${image.preview} alt="" />`}
        ${parts[image.status]()}
      </div>
      <div class="caption">
        <p class="prompt" dir="auto" title=${image.prompt}>${image.prompt}</p>
        <p class="making">${making(image, session.allowance.offers)}</p>
        <div class="actions"><${Actions} ...${{ session, image, reuse, compare }} /></div>
      </div>
    </article>
  `;
}

/** The settings of the picture; shown if the card has room. */
function making({ width, height, modelUsed, parameters }, offers) {
  const { steps, cfgScale, sampler, seed } = parameters ?? {};
  const size = `${width} × ${height}`;
  if (!parameters) return size;
  return [
    size,
    words.count(steps, "step"),
    `CFG ${cfgScale}`,
    sampler,
    `seed ${seed}`,
    form.modelName(offers, modelUsed),
  ].join(" · ");
}

const STATES = { queued: "Waiting", running: "Painting", completed: "Done", failed: "Failed" };

function Actions({ session, image, reuse, compare }) {
  if (!isFinal(image)) {
    return html`<button class="quiet" onClick=${() => session.cancel(image.id)}>Cancel</button>`;
  }
  const putAway = html`
    <button
      class="quiet bare"
      aria-label="Remove from canvas"
      title="Remove from canvas"
      onClick=${() => session.dismiss(image.id)}
    >
      ${icon("close")}
    </button>
  `;
  if (image.status === "failed") {
    return html`
      <button class="quiet" onClick=${() => session.reorder(image)}>Try again</button>
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
        title="Compare with the picture beside it"
        onClick=${compare}
      >
        ${icon("compare")}<span class="label">Compare</span>
      </button>
    `
    }
    <${Download} image=${image} /> ${putAway}
  `;
}

const Download = ({ image }) => html`
  <a
    class="quiet bare"
    href=${words.downloadUrl(image)}
    download=${""}
    aria-label="Download"
    title="Download"
  >
    ${icon("download")}<span class="label">Download</span>
  </a>
`;

/** The position changes often, so it is not a live region: a screen reader reads it on request. */
function Waiting({ place, isTurn, seconds, reason }) {
  return html`
    <div class="state">
      <span class="dots" aria-hidden="true"><i></i><i></i><i></i></span>
      <p>${reason ? "Waiting for a generator" : isTurn ? "Waiting for its turn" : "Waiting in the queue"}</p>
      ${reason && html`<small>${reason}</small>`}
      ${!reason && place && html`<small>${isTurn ? words.about(place) : words.place(place)}</small>`}
      ${!reason && seconds > 0 && html`<small>starts in about ${words.span(seconds)}</small>`}
    </div>
  `;
}

/** Without progress, which not every image service reports, the elapsed time shows that it goes on. */
function Painting({ image: { progress, startedAt } }) {
  useSeconds(!progress);
  const share = progress ? progress.step / progress.steps : 0;
  const percent = Math.floor(100 * share);
  const left = progress?.secondsLeft;
  const elapsed = startedAt ? `${words.elapsed(words.since(startedAt))} so far` : "starting";
  return html`
    <div class="glow" style=${{ "--share": progress ? share : 0.3 }}></div>
    <div class="state">
      ${progress ? html`<p class="percent">${percent}<i>%</i></p>` : html`<p>Painting</p>`}
      <small>${progress ? `step ${progress.step} of ${progress.steps}` : elapsed}</small>
      ${left > 0 && html`<small>about ${words.span(left)} left</small>`}
    </div>
    <div
      class=${progress ? "bar" : "bar unsure"}
      role="progressbar"
      aria-label="Painting"
      aria-valuemin="0"
      aria-valuemax="100"
      aria-valuenow=${progress ? percent : null}
      style=${{ "--share": share }}
    ></div>
  `;
}

/** Renders each second. */
function useSeconds(isOn) {
  const [, tick] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    if (!isOn) return undefined;
    const timer = setInterval(tick, 1000);
    return () => clearInterval(timer);
  }, [isOn]);
}

function Delayed({ image, place }) {
  useSeconds(true);
  const seconds = words.until(image.retryAt);
  return html`
    <div class="state">
      ${icon("alert")}
      <p>${seconds > 0 ? `Trying again in ${words.span(seconds)}` : "Trying again"}</p>
      ${seconds <= 0 && place && html`<small>${words.place(place)}</small>`}
      <small>${words.hitch(image.error)}</small>
      <${Reason} detail=${image.error.detail} />
    </div>
  `;
}

function Done({ session, image, isFresh, open }) {
  const [isLoaded, load] = useReducer(() => true, false);
  const renew = () => {
    load(); // if the picture does not load, show an empty frame instead of the preview
    session.renew(image.id, image.imageUrl);
  };
  // over a preview the picture fades in once it is loaded; the preview is removed after that
  const developing = useRef(image.preview ? "fading" : "developing").current;
  return html`
    <button class="picture" onClick=${() => open(image.id)} aria-label=${`Open: ${words.brief(image.prompt)}`}>
      <img
        class=${isFresh ? (isLoaded ? developing : "undeveloped") : ""}
        ...${image.parameters ? { src: image.imageUrl } : { sizes: "520px", ...sources(image) }}
        alt=""
        onLoad=${load}
        onError=${renew}
        onAnimationEnd=${() => session.covered(image.id)}
      />
    </button>
  `;
}

function Failed({ image }) {
  const { what, advice, detail } = words.failure(image.error);
  return html`
    <div class="state">
      ${icon("alert")}
      <p>${what}</p>
      <small>${advice}</small>
      <${Reason} detail=${detail} />
    </div>
  `;
}

/** The words of the image service. A long text is folded; it can be read with a finger too. */
function Reason({ detail }) {
  const [isUnfolded, unfold] = useReducer(() => true, false);
  if (!detail) return null;
  if (detail.length <= BRIEF || isUnfolded) {
    return html`<small class="detail" dir="auto" tabindex=${isUnfolded ? 0 : null}>${detail}</small>`;
  }
  return html`
    <small class="detail" dir="auto">${words.brief(detail, BRIEF)}</small>
    <button class="quiet" onClick=${unfold}>Read all</button>
  `;
}

/** A request without an answer so far. */
function Sending({ order: { request, tries, isUnreachable }, giveUp }) {
  const reason = isUnreachable ? "The server cannot be reached" : "The server is busy";
  return html`
    <article
      class="card sending"
      style=${{ "--ratio": request.width / request.height }}
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
