// The viewer: one picture in full size, with its details and the actions on it.

import { copyText } from "./clipboard.js";
import * as form from "./form.js";
import { icon } from "./icons.js";
import { Noticeboard } from "./noticeboard.js";
import { Sharing } from "./sharing.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import * as words from "./words.js";
import { useZoom } from "./zoom.js";

const ALMOST_ALL = 5; // this many pictures before the end, the next page is read

export function Viewer({ session, image, viewer, reuse, another }) {
  const dialog = useRef(null);
  const { listing } = session;
  const { images } = listing;
  const at = images.findIndex(({ id }) => id === image.id);
  const [previous, next] = at < 0 ? [] : [images[at - 1], images[at + 1]];
  const move = (to) => to && viewer.move(to.id);

  const latest = useRef(image.id);
  latest.current = image.id;
  useLayoutEffect(() => {
    const shown = dialog.current;
    shown.showModal();
    return () => {
      // close first: while a dialog is open, nothing outside it can take the focus
      shown.close();
      session.reveal(latest.current);
    };
  }, []);
  useEffect(() => {
    if (at >= images.length - ALMOST_ALL) listing.more();
    for (const neighbour of [previous, next]) if (neighbour) new Image().src = neighbour.imageUrl;
  }, [image.id]);

  const remove = () => {
    const beside = next ?? previous;
    session.delete(image.id);
    if (beside) viewer.move(beside.id);
    else viewer.close();
  };
  const pressed = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key === "z") session.notices.undo();
      return;
    }
    if (event.target.matches("input, select")) return;
    if (event.key === "ArrowLeft") move(previous);
    else if (event.key === "ArrowRight") move(next);
    else if (event.key === "Delete") remove();
    else if (event.key === "z") zoom.toggle();
    else return;
    event.preventDefault();
  };
  const swiped = (gesture) => {
    if (gesture === "click") viewer.close();
    else move(gesture === "left" ? next : previous);
  };
  const { zoom, style, stage } = useZoom(image.id, swiped);
  const closed = (event) => {
    event.preventDefault();
    viewer.close();
  };
  const take = (names) => {
    viewer.close();
    reuse(image, names);
  };
  const copyLink = async () => {
    await copyText(location.href, dialog.current);
    session.notices.show("Link copied");
  };

  return html`
    <dialog
      class="modal viewer"
      ref=${dialog}
      aria-label=${words.brief(image.prompt)}
      onKeyDown=${pressed}
      onCancel=${closed}
    >
      <div ...${stage}>
        <${Large} key=${image.id} image=${image} style=${style} />
        <button class="step left" aria-label="Newer picture" aria-disabled=${String(!previous)} onClick=${() => move(previous)}>
          ${icon("left")}
        </button>
        <button class="step right" aria-label="Older picture" aria-disabled=${String(!next)} onClick=${() => move(next)}>
          ${icon("right")}
        </button>
      </div>
      <aside>
        <header>
          <span class="value">${at >= 0 && `${at + 1} of ${words.total(listing)}`}</span>
          <button
            class="quiet zoom"
            aria-pressed=${String(zoom.scale > 1)}
            title="Zoom to 100 % (Z)"
            onClick=${() => zoom.toggle()}
          >
            ${icon("zoom")} ${zoom.scale > 1 ? `${zoom.percent} %` : "Zoom"}
          </button>
          <button class="quiet bare close" aria-label="Close" onClick=${() => viewer.close()}>${icon("close")}</button>
        </header>
        <div class="doings">
          <button class="primary" onClick=${() => take()} disabled=${!image.parameters}>
            ${icon("reuse")} Use settings
          </button>
          <button
            class="button another"
            title="One more picture with these settings and another seed"
            onClick=${another}
            disabled=${!image.parameters}
          >
            ${icon("more")} More like this
          </button>
          <a class="button" href=${words.downloadUrl(image)} download=${""}>${icon("download")} Download</a>
          <button
            class="button"
            aria-pressed=${String(image.pinned)}
            onClick=${() => session.pin(image.id, !image.pinned)}
          >
            ${icon("pin")} ${image.pinned ? "Pinned" : "Pin"}
          </button>
          <button class="button danger" onClick=${remove}>${icon("trash")} Delete</button>
          <p class="parts">
            <button class="quiet" onClick=${() => take(["prompt", "negativePrompt"])}>Prompt only</button>
            <button class="quiet" onClick=${() => take(["seed"])} disabled=${!image.parameters}>Seed only</button>
            <button class="quiet" onClick=${copyLink}>Copy link</button>
          </p>
        </div>
        <${Sharing} key=${image.id} session=${session} image=${image} />
        <p class="prompt" dir="auto">${image.prompt}</p>
        ${image.negativePrompt && html`<p class="negative"><span>Without</span> <bdi>${image.negativePrompt}</bdi></p>`}
        <${Facts} session=${session} image=${image} />
      </aside>
      <${Noticeboard} notices=${session.notices} />
    </dialog>
  `;
}

/** Shows the thumbnail until the picture is loaded. */
function Large({ image, style }) {
  return html`
    <div
      class="large"
      data-width=${image.width}
      style=${{ "--ratio": image.width / image.height, "--width": `${image.width}px`, ...style }}
    >
      <img class="stand-in" src=${image.thumbnailUrl} alt="" draggable=${false} />
      <img src=${image.imageUrl} alt=${image.prompt} draggable=${false} />
    </div>
  `;
}

function Facts({ session, image }) {
  const { parameters } = image;
  if (!parameters) return html`<dl class="facts" aria-busy="true"></dl>`;
  const facts = [
    ["Model", form.modelName(session.allowance.offers, image.modelUsed)],
    ["Size", `${image.width} × ${image.height}`],
    ["Steps", parameters.steps],
    ["CFG scale", parameters.cfgScale],
    ["Sampler", parameters.sampler],
    ["Seed", html`<${Seed} session=${session} seed=${parameters.seed} />`],
    ["Hires fix", parameters.hiresFix ? "on" : "off"],
    ["File", `${image.format.toUpperCase()}, ${words.bytes(image.fileSize)}`],
    ["Generated in", words.seconds(image.generationTime)],
    ["Requested", words.moment(image.createdAt)],
    ["Kept", image.pinned ? "as long as it is pinned" : `until ${words.day(image.expiresAt)}`],
  ];
  return html`
    <dl class="facts">
      ${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
    </dl>
  `;
}

function Seed({ session, seed }) {
  const field = useRef(null);
  const [isCopied, setCopied] = useState(false);
  const copy = async () => {
    await copyText(String(seed), field.current);
    setCopied(true);
    session.notices.say(`Seed ${seed} copied`);
    setTimeout(() => setCopied(false), 1500);
  };
  return html`
    <span ref=${field}>${seed}</span>
    <button class="quiet bare" aria-label="Copy the seed" title="Copy the seed" onClick=${copy}>
      ${isCopied ? "Copied" : icon("copy")}
    </button>
  `;
}
