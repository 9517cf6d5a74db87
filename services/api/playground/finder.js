// The bar above the gallery: the search and its filters or, while pictures are selected, what can be done with these.

import * as form from "./form.js";
import { icon } from "./icons.js";
import { PERIODS } from "./search.js";
import { html } from "./vendor/htm-preact.js";

export function Finder({ session, compare }) {
  const isSelecting = session.selection.size > 0;
  return html`
    <div class="finder">
      ${isSelecting ? html`<${Doings} session=${session} compare=${compare} />` : html`<${Filters} session=${session} />`}
    </div>
  `;
}

function Filters({ session }) {
  const { search, allowance } = session;
  const { q, model, when, from, to, pinned } = search.filter;
  const models = form.models(allowance.offers, { model }).filter(([key]) => key);
  const pressed = (event) => {
    if (event.key !== "Escape" || !q) return;
    event.preventDefault();
    search.set({ q: "" });
  };
  return html`
    <form role="search" aria-label="Pictures" onSubmit=${(event) => event.preventDefault()}>
      <label class="query">
        <span class="unseen">Search the prompts</span>
        ${icon("search")}
        <input
          id="search"
          type="search"
          autocomplete="off"
          spellcheck="false"
          maxlength="200"
          dir="auto"
          placeholder="Search the prompts"
          value=${q}
          onKeyDown=${pressed}
          onInput=${({ target }) => {
            search.set({ q: target.value }, { isTyping: true });
            showResults();
          }}
        />
      </label>
      <select
        aria-label="Model of the pictures"
        class=${model ? "chosen" : ""}
        value=${model}
        onChange=${({ target }) => search.set({ model: target.value })}
      >
        <option value="" selected=${!model}>All models</option>
        ${models.map(([key, name]) => html`<option key=${key} value=${key} selected=${key === model}>${name}</option>`)}
      </select>
      <select
        aria-label="Time of the pictures"
        class=${when ? "chosen" : ""}
        value=${when}
        onChange=${({ target }) => search.set({ when: target.value })}
      >
        ${PERIODS.map(([key, name]) => html`<option key=${key} value=${key} selected=${key === when}>${name}</option>`)}
      </select>
      ${
        when === "days" &&
        html`
        <span class="days">
          <input
            type="date"
            aria-label="From"
            max=${to || null}
            value=${from}
            onChange=${({ target }) => search.set({ from: target.value })}
          />
          <span aria-hidden="true">–</span>
          <input
            type="date"
            aria-label="To"
            min=${from || null}
            value=${to}
            onChange=${({ target }) => search.set({ to: target.value })}
          />
        </span>
      `
      }
      <button
        type="button"
        class="button"
        aria-pressed=${String(pinned)}
        onClick=${() => search.set({ pinned: !pinned })}
      >
        ${icon("pin")} <span>Pinned</span>
      </button>
      ${
        search.isActive &&
        html`
        <button type="button" class="quiet" onClick=${() => search.clear()}>${icon("close")} <span>Clear</span></button>
      `
      }
    </form>
  `;
}

/** The canvas may fill the screen: begin where the results are. */
function showResults() {
  const gallery = document.getElementById("gallery");
  if (gallery.getBoundingClientRect().top > innerHeight / 4) gallery.scrollIntoView({ block: "start" });
}

/** What can be done with the selected pictures. */
function Doings({ session, compare }) {
  const ids = [...session.selection.ids];
  const images = ids.map((id) => session.pictures.get(id)).filter(Boolean);
  const arePinned = images.every(({ pinned }) => pinned);
  return html`
    <div class="doing" role="toolbar" aria-label="Selected pictures">
      <button class="quiet bare" aria-label="Clear the selection" onClick=${() => session.selection.clear()}>
        ${icon("close")}
      </button>
      <strong>${ids.length.toLocaleString("en")} <span>selected</span></strong>
      <span class="spread"></span>
      <button class="button" disabled=${ids.length !== 2} onClick=${() => compare(ids)}>
        ${icon("compare")} <span>Compare</span>
      </button>
      <button class="button" onClick=${() => session.pinAll(ids, !arePinned)}>
        ${icon("pin")} <span>${arePinned ? "Unpin" : "Pin"}</span>
      </button>
      <button class="button" onClick=${() => session.downloadAll(ids)}>${icon("download")} <span>Download</span></button>
      <button class="button danger" onClick=${() => session.deleteAll(ids)}>${icon("trash")} <span>Delete</span></button>
    </div>
  `;
}
