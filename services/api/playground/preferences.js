// The preferences of this browser: the theme, and notifications of finished pictures.

import { icon } from "./icons.js";
import { html, useEffect, useReducer } from "./vendor/htm-preact.js";

const THEMES = [
  ["system", "System", "screen"],
  ["light", "Light", "sun"],
  ["dark", "Dark", "moon"],
];
const NOTIFICATIONS = {
  unavailable: "Not available here: the page needs HTTPS",
  blocked: "Blocked by this browser. Allow them in the settings of this site.",
  on: "When a picture is done and this page is hidden",
  off: "When a picture is done and this page is hidden",
};

export const PreferencesButton = () => html`
  <button type="button" class="quiet bare" popovertarget="preferences" aria-label="Preferences" title="Preferences">
    ${icon("gear")}
  </button>
`;

/** Not inside the form: its fields are not settings of a picture. */
export function Preferences({ attention }) {
  return html`
    <div id="preferences" class="preferences" popover="auto" role="dialog" aria-label="Preferences">
      <${Theme} />
      <${Notifications} attention=${attention} />
    </div>
  `;
}

function Theme() {
  const [, changed] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    addEventListener("theme", changed);
    return () => removeEventListener("theme", changed);
  }, []);
  return html`
    <fieldset class="field">
      <legend>Theme</legend>
      <div class="sizes">
        ${THEMES.map(
          ([key, name, picture]) => html`
            <label key=${key}>
              <input
                type="radio"
                name="theme"
                checked=${window.theme.chosen === key}
                onChange=${() => window.theme.choose(key)}
              />
              <span>${icon(picture)} ${name}</span>
            </label>
          `,
        )}
      </div>
    </fieldset>
  `;
}

function Notifications({ attention }) {
  const { state } = attention;
  const [, changed] = useReducer((count) => count + 1, 0);
  const turn = async ({ target }) => {
    await attention.turn(target.checked);
    target.checked = attention.state === "on"; // the browser may have refused
    changed();
  };
  return html`
    <label class="field switch" for="notifications">
      <input
        id="notifications"
        type="checkbox"
        role="switch"
        aria-describedby="notifications-note"
        checked=${state === "on"}
        disabled=${state === "unavailable"}
        onChange=${turn}
      />
      <span>Notifications<small id="notifications-note">${NOTIFICATIONS[state]}</small></span>
    </label>
  `;
}
