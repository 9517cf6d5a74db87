// What waits behind the cards of the canvas: a list to look at, in which each request can be cancelled.

import { Disclosure } from "./disclosure.js";
import { html } from "./vendor/htm-preact.js";
import * as words from "./words.js";

export function Line({ session, cards }) {
  const number = cards.flat().length;
  const cancelAll = () => {
    for (const images of cards) session.cancel(images);
  };
  return html`
    <${Disclosure} id="line" className="line" label=${`${number} more in the queue`} name="Pictures that wait">
      ${() => html`
        <ol>
          ${cards.map((images) => html`<${Request} key=${images[0].id} session=${session} images=${images} />`)}
        </ol>
        <p>
          ${words.count(number, "picture")} after those on the canvas
          <button class="quiet" onClick=${cancelAll}>Cancel all</button>
        </p>
      `}
    <//>
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
