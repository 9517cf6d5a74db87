// The last prompts of this browser, to be recalled under the prompt field or by keys. They are sent nowhere.

import { Disclosure } from "./disclosure.js";
import { icon } from "./icons.js";
import { recall, remember } from "./memory.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import * as words from "./words.js";

const KEPT = "darkroom.prompts";
const MOST = 50;

/** Newest first, each once. Read whenever it is needed: another tab may have changed it. */
function list() {
  const kept = recall(localStorage, KEPT);
  return Array.isArray(kept) ? kept.filter((prompt) => typeof prompt === "string").slice(0, MOST) : [];
}

const keep = (prompts) => remember(localStorage, KEPT, prompts.length ? prompts.slice(0, MOST) : null);

export const add = (prompt) => keep([prompt.trim(), ...list().filter((other) => other !== prompt.trim())]);

export const forgetAll = () => keep([]);

/** The handler of the prompt field: Alt with the arrow up or down shows an older or newer prompt, at last the draft. */
export function useRecall({ value, set, say }) {
  const place = useRef({ at: -1, draft: "", shown: null });
  return (event) => {
    if (!event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    const { at, draft, shown } = place.current;
    const isFresh = shown !== value; // it was written since
    const written = isFresh ? value : draft;
    const prompts = list().filter((prompt) => prompt !== written.trim());
    const next = (isFresh ? -1 : at) + (event.key === "ArrowUp" ? 1 : -1);
    if (next < -1 || next >= prompts.length) return;
    const text = next < 0 ? written : prompts[next];
    place.current = { at: next, draft: written, shown: text };
    set({ prompt: text });
    say(next < 0 ? `Your text: ${text}` : `Prompt ${next + 1} of ${prompts.length}: ${words.brief(text)}`);
  };
}

export function Recent({ set, notices }) {
  if (!list().length) return null;
  return html`
    <${Disclosure}
      id="recent-prompts"
      className="recent"
      label=${html`${icon("recent")} Recent`}
      title="Recent prompts (Alt and ↑ in the field)"
      name="Recent prompts"
      focusAfter="prompt"
    >
      ${(close) => html`<${Prompts} set=${set} notices=${notices} close=${close} />`}
    <//>
  `;
}

function Prompts({ set, notices, close }) {
  const prompts = list();
  const rows = useRef(null);
  const [current, setCurrent] = useState(0);
  const at = Math.min(current, prompts.length - 1);
  const move = (to) => {
    setCurrent(to);
    rows.current.children[to]?.querySelector(".recall").focus();
  };
  useEffect(() => move(0), []);
  const take = (prompt) => {
    set({ prompt });
    close();
  };
  const change = (changed, text) => {
    keep(changed);
    const restore = () => keep([...list().filter((prompt) => !prompts.includes(prompt)), ...prompts]);
    notices.show(text, { action: "Undo", act: restore });
    if (!changed.length) close();
  };
  const remove = (index) => {
    // first the focus: it must not be on what disappears
    move(index + 1 < prompts.length ? index + 1 : index - 1);
    setCurrent(Math.min(index, prompts.length - 2));
    change(
      prompts.filter((_, other) => other !== index),
      "Prompt removed from the list",
    );
  };
  const pressed = (event) => {
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: prompts.length - 1 };
    if (event.key === "Delete") remove(at);
    else if (event.key in steps) move(Math.min(Math.max(steps[event.key], 0), prompts.length - 1));
    else return;
    event.preventDefault();
  };
  return html`
    <ul ref=${rows} onKeyDown=${pressed}>
      ${prompts.map(
        (prompt, index) => html`
          <li key=${prompt}>
            <button
              type="button"
              class="recall"
              dir="auto"
              tabindex=${index === at ? 0 : -1}
              onClick=${() => take(prompt)}
              onFocus=${() => setCurrent(index)}
            >
              <span>${prompt}</span>
            </button>
            <button
              type="button"
              class="quiet bare"
              tabindex=${index === at ? 0 : -1}
              aria-label=${`Remove: ${words.brief(prompt)}`}
              title="Remove (Delete)"
              onClick=${() => remove(index)}
            >
              ${icon("close")}
            </button>
          </li>
        `,
      )}
    </ul>
    <p>
      Only in this browser
      <button type="button" class="quiet" onClick=${() => change([], "Recent prompts removed")}>Remove all</button>
    </p>
  `;
}
