// The share links of a picture, in the viewer: make one, copy it, revoke it.

import * as api from "./api.js";
import { copyText } from "./clipboard.js";
import { icon } from "./icons.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import * as words from "./words.js";

const HOUR_S = 3_600;
const LIFETIMES = [
  [HOUR_S, "1 hour"],
  [24 * HOUR_S, "1 day"],
  [7 * 24 * HOUR_S, "7 days"],
  [30 * 24 * HOUR_S, "30 days"],
];

/** Nothing if the server has no share links (`SHARE_LINKS`). */
export function Sharing({ session, image }) {
  const [isOpen, setOpen] = useState(false);
  if (!session.allowance.hasFeature("share_links")) return null;
  return html`
    <div class="sharing">
      <button class="button" aria-expanded=${String(isOpen)} onClick=${() => setOpen(!isOpen)}>
        ${icon("share")} Share
      </button>
      ${isOpen && html`<${Links} session=${session} image=${image} />`}
    </div>
  `;
}

function Links({ session, image }) {
  const place = useRef(null);
  const [listed, setListed] = useState(null);
  const [lifetime, setLifetime] = useState(LIFETIMES[1][0]);
  const [showsPrompt, setShowsPrompt] = useState(false);
  const [problem, setProblem] = useState("");
  const attempt = async (act, said) => {
    try {
      await act();
      setListed(await api.shares(image.id));
      setProblem("");
      if (said) session.notices.say(said);
    } catch (error) {
      setProblem(words.problem(error));
    }
  };
  useEffect(() => void attempt(() => {}), []);

  const mustShow = listed?.canHidePrompt === false;
  const create = (event) => {
    event.preventDefault();
    attempt(() => api.share(image.id, lifetime, showsPrompt || mustShow), "Link created");
  };
  const revoke = (id) => attempt(() => api.unshare(image.id, id), "Link revoked");
  const copy = async (url) => {
    await copyText(url, place.current);
    session.notices.show("Share link copied");
  };
  return html`
    <div ref=${place} class="links">
      <form onSubmit=${create}>
        <div class="field">
          <label for="share-lifetime">The link works for</label>
          <select id="share-lifetime" onChange=${(event) => setLifetime(Number(event.target.value))}>
            ${LIFETIMES.map(([seconds, name]) => html`<option value=${seconds} selected=${seconds === lifetime}>${name}</option>`)}
          </select>
        </div>
        <label class="field switch" for="share-prompt">
          <input
            id="share-prompt"
            type="checkbox"
            role="switch"
            checked=${showsPrompt || mustShow}
            disabled=${mustShow}
            onChange=${(event) => setShowsPrompt(event.target.checked)}
          />
          <span>
            Show the prompt
            <small>${mustShow ? "It cannot be hidden: the file has no copy without it" : "and keep the settings in the file"}</small>
          </span>
        </label>
        <button class="button" disabled=${!listed || listed.shares.length >= listed.limit}>Create link</button>
      </form>
      ${problem && html`<p class="few" role="alert">${problem}</p>`}
      <ul aria-label="Links to this picture">
        ${listed?.shares.map((link) => html`<${Link} key=${link.id} link=${link} copy=${copy} revoke=${revoke} />`)}
      </ul>
      <small>Everyone who has a link sees the picture, without an account, until the link ends or the picture is deleted.</small>
    </div>
  `;
}

function Link({ link, copy, revoke }) {
  const url = api.addressOf(link.url).href;
  const until = `until ${words.moment(link.expiresAt)}`;
  return html`
    <li>
      <input readonly aria-label=${`Share link, ${until}`} value=${url} onFocus=${(event) => event.target.select()} />
      <span class="value">${until}, ${link.showPrompt ? "with" : "without"} the prompt</span>
      <button class="quiet" aria-label=${`Copy the link, ${until}`} onClick=${() => copy(url)}>${icon("copy")} Copy</button>
      <button class="quiet" aria-label=${`Revoke the link, ${until}`} onClick=${() => revoke(link.id)}>Revoke</button>
    </li>
  `;
}
