// Shows the notices: above the page, or inside a dialog, because nothing outside an open dialog can be used.

import { icon } from "./icons.js";
import { html } from "./vendor/htm-preact.js";

export function Noticeboard({ notices }) {
  return html`
    <div
      class="notices"
      role="status"
      aria-live="polite"
      onMouseEnter=${() => notices.hold()}
      onMouseLeave=${() => notices.release()}
      onFocusIn=${() => notices.hold()}
      onFocusOut=${() => notices.release()}
    >
      ${notices.list.map(
        ({ id, text, action }) => html`
          <p class="notice" key=${id}>
            <span dir="auto">${text}</span>
            ${
              action &&
              html`
              <button
                class="quiet"
                title=${action.startsWith("Undo") ? `${action} (Ctrl+Z)` : null}
                onClick=${() => notices.act(id)}
              >
                ${action}
              </button>
            `
            }
            <button class="quiet bare" aria-label="Dismiss" onClick=${() => notices.dismiss(id)}>
              ${icon("close")}
            </button>
          </p>
        `,
      )}
    </div>
  `;
}
