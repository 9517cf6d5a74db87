// What a card shows of one image: its picture, how far it is, or what went wrong.

import { icon } from "./icons.js";
import { isFinal } from "./pictures.js";
import { sources } from "./renditions.js";
import { html, useEffect, useReducer, useRef } from "./vendor/htm-preact.js";
import * as words from "./words.js";

const BRIEF = 80; // characters of a reason that is shown whole

export function Frame({ session, image, open }) {
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
  return html`
    <div class=${`frame ${image.status}`}>
      ${image.preview && wasSeen.current && html`<img class="preview" src=${image.preview} alt="" />`}
      ${parts[image.status]()}
    </div>
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

/** Without progress, which not every image service reports, the elapsed time shows that it goes on. */
function Painting({ image }) {
  const { progress, startedAt } = image;
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
      aria-label=${image.batch ? `Painting ${words.oneOf(image)}` : "Painting"}
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
  const name = `Open: ${words.brief(image.prompt)}${image.batch ? `, ${words.oneOf(image)}` : ""}`;
  return html`
    <button class="picture" onClick=${() => open(image.id)} aria-label=${name}>
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
