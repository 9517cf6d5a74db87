// What waits behind the cards of the canvas: a list to look at, in which each request can be cancelled.

import { html, useRef, useState } from "./vendor/htm-preact.js";
import * as words from "./words.js";

export function Line({ session, cards }) {
  const [isOpen, setOpen] = useState(false);
  const whole = useRef(null);
  const number = cards.flat().length;
  const cancelAll = () => {
    for (const images of cards) session.cancel(images);
  };
  const close = () => {
    setOpen(false);
    whole.current.querySelector("button").focus();
  };
  return html`
    <div
      class="line"
      ref=${whole}
      onFocusOut=${({ relatedTarget }) => whole.current?.contains(relatedTarget) || setOpen(false)}
      onKeyDown=${(event) => isOpen && event.key === "Escape" && close()}
    >
      <button
        class="quiet"
        aria-expanded=${String(isOpen)}
        aria-controls="line"
        onClick=${() => setOpen(!isOpen)}
      >
        ${number} more in the queue
      </button>
      <div id="line" class="recalls" role="group" aria-label="Pictures that wait" tabindex="-1" hidden=${!isOpen}>
        ${
          isOpen &&
          html`
          <ol>
            ${cards.map((images) => html`<${Request} key=${images[0].id} session=${session} images=${images} />`)}
          </ol>
          <p>
            ${words.count(number, "picture")} after those on the canvas
            <button class="quiet" onClick=${cancelAll}>Cancel all</button>
          </p>
        `
        }
      </div>
    </div>
  `;
}

function Request({ session, images }) {
  const [image] = images;
  const { place, isTurn, seconds, reason } = session.pictures.waitOf(image);
  const facts = [
    images.length > 1 && words.count(images.length, "picture"),
    reason ?? (place && (isTurn ? words.about(place) : words.place(place))),
    !reason && seconds > 0 && `starts in about ${words.span(seconds)}`,
  ];
  return html`
    <li>
      <p>
        <span class="prompt" dir="auto">${image.prompt}</span>
        <small>${facts.filter(Boolean).join(" · ")}</small>
      </p>
      <button
        class="quiet"
        aria-label=${`Cancel: ${words.brief(image.prompt)}`}
        onClick=${() => session.cancel(images)}
      >
        Cancel
      </button>
    </li>
  `;
}
