// The canvas: a card for each image in progress, and for those that have just completed or failed.

import { icon } from "./icons.js";
import { isFinal } from "./pictures.js";
import { html, useEffect, useReducer, useRef } from "./vendor/htm-preact.js";
import * as words from "./words.js";

const IN_WORK_SHOWN = 6; // for the rest, only their number is shown

export function Canvas({ session, open, reuse }) {
  const { pictures, orders } = session;
  const cards = pictures.onCanvas();
  // the oldest are painted first, so they are the ones to show
  const rest = cards.filter((image) => !isFinal(image)).slice(0, -IN_WORK_SHOWN);
  const shown = cards.filter((image) => !rest.includes(image));
  const sending = orders.waiting;
  const number = shown.length + sending.length;
  if (!number) return html`<section id="canvas" hidden></section>`;
  return html`
    <section id="canvas" aria-labelledby="canvas-title">
      <h2 id="canvas-title">
        Canvas ${rest.length > 0 && html`<span class="value">${rest.length} more in the queue</span>`}
      </h2>
      <div class=${`cards cards-${Math.min(number, 4)}`}>
        ${sending.map(
          (order) => html`<${Sending} key=${order.key} order=${order} giveUp=${() => orders.giveUp(order.key)} />`,
        )}
        ${shown.map(
          (image) => html`
            <${Card}
              key=${image.id}
              session=${session}
              image=${image}
              open=${open}
              reuse=${reuse}
            />
          `,
        )}
      </div>
    </section>
  `;
}

function Card({ session, image, open, reuse }) {
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
  // text needs some width
  const ratio = Math.max(image.width / image.height, image.status === "failed" ? 0.9 : 0);
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
        <p class="prompt" title=${image.prompt}>${image.prompt}</p>
        <p class="making">${making(image)}</p>
        <div class="actions"><${Actions} session=${session} image=${image} reuse=${reuse} /></div>
      </div>
    </article>
  `;
}

/** The settings of the picture; shown if the card has room. */
function making({ width, height, modelUsed, parameters }) {
  const { steps, cfgScale, sampler, seed } = parameters ?? {};
  const size = `${width} × ${height}`;
  if (!parameters) return size;
  return [size, words.count(steps, "step"), `CFG ${cfgScale}`, sampler, `seed ${seed}`, modelUsed].join(" · ");
}

const STATES = { queued: "Waiting", running: "Painting", completed: "Done", failed: "Failed" };

function Actions({ session, image, reuse }) {
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
    <button class="quiet bare" aria-label="Use settings" title="Use these settings" onClick=${() => reuse(image)}>
      ${icon("reuse")}<span class="label">Use settings</span>
    </button>
    <a class="quiet bare" href=${image.imageUrl} download aria-label="Download" title="Download">
      ${icon("download")}<span class="label">Download</span>
    </a>
    ${putAway}
  `;
}

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

function Painting({ image: { progress } }) {
  const share = progress ? progress.step / progress.steps : 0;
  const percent = Math.floor(100 * share);
  const left = progress?.secondsLeft;
  return html`
    <div class="glow" style=${{ "--share": share }}></div>
    <div class="state">
      ${progress ? html`<p class="percent">${percent}<i>%</i></p>` : html`<p>Painting</p>`}
      <small>${progress ? `step ${progress.step} of ${progress.steps}` : "starting"}</small>
      ${left > 0 && html`<small>about ${words.span(left)} left</small>`}
    </div>
    <div
      class="bar"
      role="progressbar"
      aria-label="Painting"
      aria-valuemin="0"
      aria-valuemax="100"
      aria-valuenow=${percent}
      style=${{ "--share": share }}
    ></div>
  `;
}

function Delayed({ image, place }) {
  const [, tick] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    const timer = setInterval(tick, 1000);
    return () => clearInterval(timer);
  }, []);
  const seconds = words.until(image.retryAt);
  return html`
    <div class="state">
      ${icon("alert")}
      <p>${seconds > 0 ? `Trying again in ${words.span(seconds)}` : "Trying again"}</p>
      ${seconds <= 0 && place && html`<small>${words.place(place)}</small>`}
      <small title=${image.error.detail}>${words.hitch(image.error)}</small>
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
        src=${image.imageUrl}
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
      ${detail && html`<small class="detail" title=${detail}>${detail}</small>`}
    </div>
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
        <p class="prompt">${request.prompt}</p>
        <div class="actions"><button class="quiet" onClick=${giveUp}>Stop trying</button></div>
      </div>
    </article>
  `;
}
