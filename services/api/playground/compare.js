// Two pictures side by side, and their settings with the differences marked.

import * as form from "./form.js";
import { icon } from "./icons.js";
import { addressWith } from "./search.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";

const ADDRESS = /^#compare=([0-9a-f-]{36}),([0-9a-f-]{36})$/;
const compared = () => ADDRESS.exec(location.hash)?.slice(1) ?? null;

/** The two ids are in the address, so that the back button closes them, and a link opens them. */
export function useComparison(session) {
  const [ids, setIds] = useState(compared);
  useEffect(() => {
    const follow = () => setIds(compared());
    addEventListener("popstate", follow);
    return () => removeEventListener("popstate", follow);
  }, []);
  const isReady = session.history.isLoaded;
  useEffect(() => {
    for (const id of isReady ? (ids ?? []) : []) session.complete(id);
  }, [isReady, ids?.join()]);
  const close = () => {
    if (history.state?.isOurs) return history.back();
    history.replaceState(null, "", addressWith(null, ""));
    setIds(null);
  };
  const isGone = Boolean(ids?.some((id) => session.pictures.isGone(id)));
  useEffect(() => {
    if (isGone) close();
  }, [isGone]);
  const images = isReady && !isGone ? (ids ?? []).map((id) => session.pictures.get(id)).filter(Boolean) : [];
  return {
    images: images.length === 2 ? images : null,
    open([one, other]) {
      history.pushState({ isOurs: true }, "", addressWith(null, `#compare=${one},${other}`));
      setIds([one, other]);
    },
    move([one, other]) {
      history.replaceState(history.state, "", addressWith(null, `#compare=${one},${other}`));
      setIds([one, other]);
    },
    close,
  };
}

/** The pictures of the canvas that the right one can be, if both are on it: the oldest first. */
function seriesOf(session, [left, right]) {
  const done = session.pictures.onCanvas().filter(({ status }) => status === "completed");
  const others = done
    .map(({ id }) => id)
    .reverse()
    .filter((id) => id !== left.id);
  return done.some(({ id }) => id === left.id) && others.includes(right.id) ? others : [];
}

export function Comparison({ session, images, move, close }) {
  const dialog = useRef(null);
  const [left, right] = images;
  const series = seriesOf(session, images);
  const at = series.indexOf(right.id);
  const step = (to) => to && move([left.id, to]);
  const pressed = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(".table")) return;
    if (event.key === "ArrowLeft") step(series[at - 1]);
    else if (event.key === "ArrowRight") step(series[at + 1]);
    else if (event.key === "k" && series.length) move([right.id, left.id]);
    else return;
    event.preventDefault();
  };
  useLayoutEffect(() => {
    const shown = dialog.current;
    shown.showModal();
    return () => shown.close();
  }, []);
  const closed = (event) => {
    event.preventDefault();
    close();
  };
  return html`
    <dialog
      class="modal comparison"
      ref=${dialog}
      aria-labelledby="comparison-title"
      onCancel=${closed}
      onKeyDown=${pressed}
    >
      <header>
        <h2 id="comparison-title">Two pictures</h2>
        ${
          series.length > 1 &&
          html`
          <p class="series">
            <button
              class="quiet bare"
              aria-label="Earlier picture of the canvas"
              aria-disabled=${String(at === 0)}
              onClick=${() => step(series[at - 1])}
            >
              ${icon("left")}
            </button>
            <span class="value" role="status">${at + 1} of ${series.length}</span>
            <button
              class="quiet bare"
              aria-label="Later picture of the canvas"
              aria-disabled=${String(at === series.length - 1)}
              onClick=${() => step(series[at + 1])}
            >
              ${icon("right")}
            </button>
            <button
              class="quiet"
              title="The right picture becomes the left one (K)"
              onClick=${() => move([right.id, left.id])}
            >
              Keep the right one
            </button>
          </p>
        `
        }
        <button class="quiet bare close" aria-label="Close" onClick=${close}>${icon("close")}</button>
      </header>
      <div class="both">
        ${images.map(
          (image, at) => html`
            <figure key=${image.id} style=${{ "--ratio": image.width / image.height }}>
              <img
                src=${image.imageUrl}
                alt=${`${at ? "Right" : "Left"}: ${image.prompt}`}
                style=${{ backgroundImage: `url("${image.thumbnailUrl}")` }}
              />
            </figure>
          `,
        )}
      </div>
      <${Differences} session=${session} images=${images} />
    </dialog>
  `;
}

function Differences({ session, images }) {
  const rows = rowsOf(images, session.allowance.offers);
  return html`
    <div class="table" tabindex="0" role="region" aria-label="Settings">
      <table>
        <colgroup><col class="name" /><col /><col /></colgroup>
        <thead class="unseen">
          <tr><th scope="col">Setting</th><th scope="col">Left</th><th scope="col">Right</th></tr>
        </thead>
        <tbody>
          ${rows.map(([name, one, other]) => {
            const differs = one !== other;
            return html`
              <tr key=${name} class=${differs ? "differs" : ""}>
                <th scope="row">${name}${differs && html`<span class="unseen">, differs</span>`}</th>
                <td dir="auto">${one}</td>
                <td dir="auto">${other}</td>
              </tr>
            `;
          })}
        </tbody>
      </table>
    </div>
  `;
}

function rowsOf([one, other], offers) {
  const row = (name, value) => [name, ...[one, other].map((image) => String(value(image) ?? "…"))];
  return [
    row("Prompt", (image) => image.prompt),
    row("Without", (image) => (image.parameters ? image.negativePrompt || "–" : null)),
    row("Model", (image) => form.modelName(offers, image.modelUsed)),
    row("Size", (image) => `${image.width} × ${image.height}`),
    row("Seed", (image) => image.parameters?.seed),
    row("Steps", (image) => image.parameters?.steps),
    row("CFG scale", (image) => image.parameters?.cfgScale),
    row("Sampler", (image) => image.parameters?.sampler),
    row("Hires fix", (image) => (image.parameters ? (image.parameters.hiresFix ? "on" : "off") : null)),
  ];
}
