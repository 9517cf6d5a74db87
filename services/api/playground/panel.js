// The settings panel: the prompt, the settings, the Generate button, and the remaining limits.

import { Choice, Seed, Sizes, Slider, Switch, Text } from "./fields.js";
import * as form from "./form.js";
import { icon } from "./icons.js";
import { PreferencesButton } from "./preferences.js";
import { Recent, useRecall } from "./prompts.js";
import { html, useEffect, useReducer, useState } from "./vendor/htm-preact.js";
import * as words from "./words.js";

const FEW = 5; // remaining requests of this hour, at which the text becomes a warning
const IS_MAC = /Mac|iPhone|iPad/.test(navigator.platform);

export function Panel({ session, values, set, problem, generate }) {
  const { offers } = session.allowance;
  const model = form.offered(offers, values.model);
  const [isUnfolded, setUnfolded] = useState(false);
  const { notices } = session;
  const recall = useRecall({ value: values.prompt, set, say: (text) => notices.say(text) });
  const submit = (event) => {
    event.preventDefault();
    generate();
  };
  return html`
    <form class="panel" aria-label="New picture" onSubmit=${submit} novalidate>
      <header>
        <h1><span class="lamp" aria-hidden="true"></span>Darkroom</h1>
        ${
          session.isSignedIn &&
          html`<button type="button" class="quiet" onClick=${() => session.signOut()}>Sign out</button>`
        }
        <${PreferencesButton} />
      </header>
      <div class="fields">
        <div class="prompting">
          <${Text}
            id="prompt"
            label="Prompt"
            rows="4"
            value=${values.prompt}
            set=${set}
            hint="What should be in the picture?"
            onKeyDown=${recall}
          />
          <${Recent} set=${set} notices=${notices} />
        </div>
        <button
          type="button"
          class="quiet unfold"
          aria-expanded=${String(isUnfolded)}
          aria-controls="settings"
          onClick=${() => setUnfolded(!isUnfolded)}
        >
          ${icon("settings")} Settings <span class="summary">${summary(values, offers)}</span>
        </button>
        <div id="settings" class=${isUnfolded ? "settings unfolded" : "settings"}>
          <${Text}
            id="negativePrompt"
            label="Negative prompt"
            rows="2"
            value=${values.negativePrompt}
            set=${set}
            hint="What should not be in it?"
            unable=${model?.negativePrompt === false}
          />
          <${Choice}
            id="model"
            label="Model"
            value=${values.model}
            set=${set}
            choices=${form.models(offers, values)}
          />
          <${Sizes} values=${values} set=${set} model=${model} />
          <${Slider}
            id="steps"
            label="Steps"
            value=${values.steps}
            set=${set}
            min=${1}
            max=${form.maxSteps(model)}
            step=${1}
          />
          <${Slider}
            id="cfgScale"
            label="CFG scale"
            value=${values.cfgScale}
            set=${set}
            min=${0}
            max=${form.MAX_CFG}
            step=${0.5}
          />
          <div class="pair">
            <${Choice}
              id="sampler"
              label="Sampler"
              value=${values.sampler}
              set=${set}
              choices=${form.samplers(offers, values).map((name) => [name, name])}
            />
            <${Seed} value=${values.seed} set=${set} />
          </div>
          <${Switch}
            id="hiresFix"
            label="Hires fix"
            value=${values.hiresFix}
            set=${set}
            unable=${model?.hiresFix === false}
          >
            Generate at a small size, then enlarge
          <//>
        </div>
        <p class="notice-of-engine">${offers?.notice} <a href="docs">API documentation</a></p>
      </div>
      <footer><${Order} ...${{ session, problem, values, set }} /></footer>
    </form>
  `;
}

const summary = ({ model, width, height, steps }, offers) =>
  `${form.modelName(offers, model)} · ${width} × ${height} · ${words.count(steps, "step")}`;

/** How many pictures, the button, why it is disabled, and the remaining limits. */
function Order({ session, problem, values, set }) {
  const { isSending } = session.orders;
  const { limits } = session.allowance;
  const { numImages } = values;
  const barrier = useBarrier(session, numImages);
  return html`
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <${Numbers} value=${numImages} set=${set} />
    <button
      class="primary"
      aria-disabled=${String(Boolean(barrier || isSending))}
      aria-describedby="limits"
      onClick=${(event) => (barrier || isSending) && event.preventDefault()}
    >
      Generate${numImages > 1 && ` ${numImages}`} <kbd>${IS_MAC ? "⌘" : "Ctrl"} ↵</kbd>
    </button>
    <p id="limits" class=${barrier || isFew(limits) ? "limits few" : "limits"}>${barrier ?? left(limits)}</p>
  `;
}

const Numbers = ({ value, set }) => html`
  <div class="numbers" role="radiogroup" aria-labelledby="numbers-label">
    <span id="numbers-label">Pictures</span>
    <div class="sizes">
      ${form.NUMBERS.map(
        (number) => html`
          <label key=${number}>
            <input
              type="radio"
              name="numImages"
              checked=${number === value}
              onChange=${() => set({ numImages: number })}
            />
            <span>${number}</span>
          </label>
        `,
      )}
    </div>
  </div>
`;

const isFew = (limits) => Boolean(limits?.hourly.limit) && limits.hourly.remaining <= FEW;

/** Why so many pictures cannot be requested now; updated when the hourly limit moves on. */
function useBarrier(session, number) {
  const { limits } = session.allowance;
  const [, tick] = useReducer((count) => count + 1, 0);
  const isFull = Boolean(limits?.hourly.limit) && limits.hourly.remaining <= 0;
  const seconds = isFull ? Math.max(0, limits.hourly.resetsIn - (Date.now() - limits.at) / 1000) : 0;
  useEffect(() => {
    if (!isFull) return undefined;
    const timer = setTimeout(() => (seconds > 1 ? tick() : session.allowance.readSoon()), 1000);
    return () => clearTimeout(timer);
  });
  if (isFull) return `Limit of ${limits.hourly.limit} an hour reached. Next picture in ${words.span(seconds)}.`;
  const room = limits ? roomOf(limits) : Infinity;
  if (room <= 0) {
    if (limits.waiting) return `${limits.waiting.limit} pictures wait already. Wait for one, or cancel one.`;
    return limits.concurrent.limit === 1
      ? "One picture at a time. Wait for it, or cancel it."
      : `${limits.concurrent.limit} pictures at a time. Wait for one, or cancel one.`;
  }
  if (limits?.hourly.limit && limits.hourly.remaining < number) {
    return `${words.count(limits.hourly.remaining, "picture")} left this hour. Choose fewer.`;
  }
  return room < number ? `Room for ${words.count(room, "more picture")} now. Choose fewer, or wait.` : null;
}

/** How many more pictures may be in work or wait. */
function roomOf({ concurrent, waiting }) {
  if (!concurrent.limit || (waiting && !waiting.limit)) return Infinity;
  return Math.max(0, concurrent.remaining) + Math.max(0, waiting?.remaining ?? 0);
}

function left(limits) {
  if (!limits) return "\u00a0";
  const { hourly, concurrent } = limits;
  const parts = [];
  if (concurrent.limit && concurrent.remaining <= 0) parts.push("the next one waits for its turn");
  else if (concurrent.limit) parts.push(`${concurrent.remaining} of ${concurrent.limit} can start now`);
  if (hourly.limit) parts.push(`${hourly.remaining} of ${hourly.limit} left this hour`);
  return parts.join(" · ");
}
