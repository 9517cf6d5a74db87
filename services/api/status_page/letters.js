// The dead letters: their number always, the list when it is opened, the body of one when it is asked for.

import { html } from "../playground/vendor/htm-preact.js";
import { count, moment } from "./words.js";

export function DeadLetters({ reader }) {
  const { letters, status } = reader;
  return html`
    <section class="card">
      <h2>Dead letters <small>${count(status.deadLetters)}</small></h2>
      ${
        letters === null
          ? html`<button class="button" disabled=${reader.busy} onClick=${() => reader.openLetters()}>
              Show the list
            </button>`
          : html`<ul class="letters">
              ${letters.map((letter) => html`<${Letter} key=${letter.id} letter=${letter} reader=${reader} />`)}
            </ul>`
      }
      ${letters !== null && !letters.length && html`<p class="note">There are none.</p>`}
    </section>
  `;
}

function Letter({ letter, reader }) {
  const opened = reader.opened?.id === letter.id ? reader.opened : null;
  const busy = reader.busy;
  return html`
    <li>
      <p class="reason">${letter.reason}</p>
      <p class="note">${letter.queue}, ${moment(letter.diedAt)}, ${letter.id}</p>
      <div class="actions">
        <button class="button" aria-expanded=${Boolean(opened)} disabled=${busy} onClick=${() => reader.show(letter.id)}>
          ${opened ? "Hide" : "Show"}
        </button>
        <button class="button" disabled=${busy} onClick=${() => reader.redrive(letter.id)}>Redrive</button>
        <button
          class="button danger"
          disabled=${busy}
          onClick=${() => confirm("Delete this message for good?") && reader.drop(letter.id)}
        >
          Drop
        </button>
      </div>
      ${opened && html`<pre tabindex="0" aria-label="Body of the message">${readable(opened.body)}</pre>`}
    </li>
  `;
}

function readable(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}
