// The fields of the settings panel: each shows a value and changes it by `set`.

import * as form from "./form.js";
import { icon, shape } from "./icons.js";
import { html, useState } from "./vendor/htm-preact.js";

const NEAR = 0.9; // of the limit: from here on the length is shown

/** A text that is pasted is never cut in silence: its length is shown, and the request is refused. */
export function Text({ id, label, rows, value, set, hint, onKeyDown, unable = false }) {
  const length = form.lengthOf(value);
  const isTooLong = length > form.MAX_PROMPT;
  const isNear = length > NEAR * form.MAX_PROMPT && !unable;
  return html`
    <div class="field">
      <label for=${id}>${label}</label>
      <textarea
        id=${id}
        rows=${rows}
        dir="auto"
        aria-invalid=${isTooLong ? "true" : null}
        aria-describedby=${isNear ? `${id}-length` : null}
        placeholder=${unable ? "Not supported by this model" : hint}
        disabled=${unable}
        value=${value}
        onInput=${(event) => set({ [id]: event.target.value })}
        onKeyDown=${onKeyDown}
      />
      ${
        isNear &&
        html`
        <small id=${`${id}-length`} class=${isTooLong ? "length few" : "length"}>
          ${length.toLocaleString("en")} of ${form.MAX_PROMPT.toLocaleString("en")} characters
        </small>
      `
      }
    </div>
  `;
}

export function Choice({ id, label, value, set, choices }) {
  return html`
    <div class="field">
      <label for=${id}>${label}</label>
      <select id=${id} value=${value} onChange=${(event) => set({ [id]: event.target.value })}>
        ${choices.map(
          ([key, name]) => html`<option key=${key} value=${key} selected=${key === value}>${name}</option>`,
        )}
      </select>
    </div>
  `;
}

export function Sizes({ values, set, model }) {
  const isChosen = ({ width, height }) => width === values.width && height === values.height;
  const choices = form.sizes(model);
  return html`
    <fieldset class="field">
      <legend>Size</legend>
      <div class="sizes">
        ${choices.map(
          (size) => html`
            <label key=${size.ratio} title=${`${size.width} × ${size.height}`}>
              <input
                type="radio"
                name="ratio"
                checked=${isChosen(size)}
                onChange=${() => set({ width: size.width, height: size.height })}
              />
              <span>${shape(size.width, size.height)} ${size.ratio}</span>
            </label>
          `,
        )}
      </div>
      <div class="pair free">
        <${Side} id="width" label="Width" value=${values.width} set=${set} model=${model} max=${model?.maxWidth} />
        <${Side} id="height" label="Height" value=${values.height} set=${set} model=${model} max=${model?.maxHeight} />
      </div>
    </fieldset>
  `;
}

/** One side of the picture in pixels; the next size that is possible is taken when the field is left. */
function Side({ id, label, value, set, model, max }) {
  const [draft, setDraft] = useState(null); // while it is typed: the page may be rendered at any moment
  const [most, unit] = [max ?? form.MAX_SIDE, form.unit(model)];
  const type = ({ target }) => {
    setDraft(target.value);
    const side = target.valueAsNumber;
    if (form.fittingSide(side, most, unit) === side) set({ [id]: side }); // a request may be sent without leaving
  };
  const take = ({ target }) => {
    setDraft(null);
    set({ [id]: form.fittingSide(target.valueAsNumber, most, unit) ?? value });
  };
  return html`
    <label class="side">
      ${label}
      <input
        id=${id}
        type="number"
        min=${form.MIN_SIDE}
        max=${most}
        step=${unit}
        value=${draft ?? value}
        onInput=${type}
        onChange=${take}
      />
    </label>
  `;
}

export function Slider({ id, label, value, set, min, max, step }) {
  const take = (event, { isDone }) => {
    const number = event.target.valueAsNumber;
    const isFine = number >= min && number <= max;
    if (isFine) set({ [id]: number });
    else if (isDone) event.target.value = value;
  };
  return html`
    <div class="field slider">
      <label for=${id}>${label}</label>
      <input
        type="number"
        aria-label=${`${label}, as a number`}
        min=${min}
        max=${max}
        step=${step}
        value=${value}
        onInput=${(event) => take(event, { isDone: false })}
        onChange=${(event) => take(event, { isDone: true })}
      />
      <input
        id=${id}
        type="range"
        min=${min}
        max=${max}
        step=${step}
        value=${value}
        style=${{ "--fill": `${(100 * (value - min)) / (max - min)}%` }}
        onInput=${(event) => take(event, { isDone: true })}
      />
    </div>
  `;
}

export function Seed({ value, set }) {
  const isRandom = value === -1;
  const take = ({ target }) => {
    const digits = target.value.replace(/\D/g, "");
    target.value = digits;
    set({ seed: digits ? Math.min(Number(digits), form.MAX_SEED) : -1 });
  };
  return html`
    <div class="field">
      <label for="seed">Seed</label>
      <div class="joined">
        <input
          id="seed"
          inputmode="numeric"
          autocomplete="off"
          placeholder="Random"
          value=${isRandom ? "" : value}
          onInput=${take}
        />
        <button
          type="button"
          class="quiet"
          aria-pressed=${String(isRandom)}
          aria-label="Random seed"
          title="A random seed for each picture"
          onClick=${() => set({ seed: -1 })}
        >
          ${icon("die")}
        </button>
      </div>
    </div>
  `;
}

export function Switch({ id, label, value, set, unable, children }) {
  return html`
    <label class="field switch" for=${id}>
      <input
        id=${id}
        type="checkbox"
        role="switch"
        checked=${value && !unable}
        disabled=${unable}
        onChange=${(event) => set({ [id]: event.target.checked })}
      />
      <span>${label}<small>${unable ? "Not supported by this model" : children}</small></span>
    </label>
  `;
}
