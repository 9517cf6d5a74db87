// The whole page: the settings panel, the canvas, the gallery, and the dialogs and notices above them.

import { Canvas } from "./canvas.js";
import { Comparison, useComparison } from "./compare.js";
import { Dropping } from "./dropping.js";
import * as form from "./form.js";
import { Gallery } from "./gallery.js";
import { icon } from "./icons.js";
import { Noticeboard } from "./noticeboard.js";
import { Panel } from "./panel.js";
import { Preferences } from "./preferences.js";
import * as prompts from "./prompts.js";
import { addressWith } from "./search.js";
import { SignIn } from "./signin.js";
import { html, useEffect, useReducer, useRef, useState } from "./vendor/htm-preact.js";
import { Viewer } from "./viewer.js";
import * as words from "./words.js";

export function App({ session }) {
  const [, redraw] = useReducer((count) => count + 1, 0);
  useEffect(() => session.subscribe(redraw), [session]);
  const { values, set, problem, generate, another, reuse, take } = useForm(session);
  const viewer = useViewer(session);
  const comparison = useComparison(session);
  useShortcuts({ generate, undo: () => session.notices.undo() });
  useTitle(session);

  return html`
    <${Panel} session=${session} values=${values} set=${set} problem=${problem} generate=${generate} />
    <${Preferences} attention=${session.attention} />
    <main>
      <${Connection} state=${session.connection} />
      <${Canvas} session=${session} open=${viewer.open} reuse=${reuse} compare=${comparison.open} />
      <${Above} session=${session} />
      <${Gallery}
        session=${session}
        open=${viewer.open}
        compare=${comparison.open}
        tryOut=${(prompt) => set({ prompt }, "prompt")}
      />
    </main>
    ${
      viewer.image &&
      html`
      <${Viewer}
        session=${session}
        image=${viewer.image}
        viewer=${viewer}
        reuse=${reuse}
        another=${() => another(viewer.image)}
      />
    `
    }
    ${
      comparison.images &&
      html`
      <${Comparison}
        session=${session}
        images=${comparison.images}
        move=${comparison.move}
        close=${comparison.close}
      />
    `
    }
    <${Dropping} notices=${session.notices} use=${take} />
    ${session.needsToken && html`<${SignIn} session=${session} />`}
    ${!viewer.image && html`<${Noticeboard} notices=${session.notices} />`}
    <div class="unseen" role="status" aria-live="polite">${session.notices.spoken}</div>
  `;
}

/** The values of the panel, stored between visits, and the actions on them. */
function useForm(session) {
  const [values, setValues] = useState(() => form.initial(null));
  const [problem, setProblem] = useState(null);
  const isTouched = useRef(false);
  const { offers } = session.allowance;

  useEffect(() => {
    if (offers) setValues((now) => (isTouched.current ? form.fitting(now, offers) : form.initial(offers)));
  }, [offers]);

  const set = (changes, focus) => {
    isTouched.current = true;
    setProblem(null);
    setValues((now) => {
      const next = form.fitting({ ...now, ...changes }, offers);
      form.keep(next);
      return next;
    });
    if (focus) setTimeout(() => document.getElementById(focus)?.focus());
  };

  const send = async (wanted) => {
    setProblem(null);
    prompts.add(wanted.prompt);
    const ordered = session.order(form.request(wanted, offers));
    setTimeout(showCanvas); // once its place is there
    const error = await ordered;
    if (error && error.status !== 401) setProblem(words.problem(error));
  };

  const generate = () => {
    if (session.orders.isSending) return; // a double click, or a key held down
    if (!values.prompt.trim()) {
      setProblem("Describe the picture first.");
      document.getElementById("prompt").focus();
      return;
    }
    const tooLong = ["prompt", "negativePrompt"].find((name) => form.lengthOf(values[name]) > form.MAX_PROMPT);
    if (tooLong) {
      const over = words.count(form.lengthOf(values[tooLong]) - form.MAX_PROMPT, "character");
      setProblem(`The ${tooLong === "prompt" ? "prompt" : "negative prompt"} is ${over} too long.`);
      document.getElementById(tooLong).focus();
      return;
    }
    send(values);
  };

  session.reorder = (images) => {
    if (session.orders.isSending) return;
    for (const settings of form.requestsFor(images)) send({ ...values, ...settings });
  };

  /** One more picture with these settings, but another seed. What is written in the form stays. */
  const another = async (image) => {
    const wanted = { ...values, ...form.settingsOf(image), seed: form.RANDOM_SEED, numImages: 1 };
    const ordered = session.order(form.request(wanted, offers));
    session.notices.show("Requesting one more picture with another seed");
    const error = await ordered;
    if (error && error.status !== 401) session.notices.show(words.problem(error));
  };

  const reuse = (image, names = null) => {
    const settings = form.settingsOf(image);
    const wanted = names ? Object.fromEntries(names.map((name) => [name, settings[name]])) : settings;
    set(wanted, names?.includes("seed") ? "seed" : "prompt");
    const what = names?.includes("seed") ? "Seed" : "Prompt";
    session.notices.show(names ? `${what} copied to the form` : "Settings copied to the form, including the seed");
  };

  /** Copy the settings of a dropped picture, those that a request may have. */
  const take = (settings) => {
    const { model, ...others } = form.usable(settings);
    const isUnknown = model && offers?.known && !form.offered(offers, model);
    set(isUnknown || !model ? others : { ...others, model }, "prompt");
    const but = isUnknown ? "; its model is not offered here" : "";
    session.notices.show(`Settings of the picture copied to the form${but}`);
  };
  return { values, set, problem, generate, another, reuse, take };
}

/** On a phone the canvas is below the form: show it. Who is further down, in the gallery, stays there. */
function showCanvas() {
  const canvas = document.getElementById("canvas").getBoundingClientRect();
  if (canvas.top > innerHeight / 2) toCanvas();
}

function toCanvas() {
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  document.getElementById("canvas").scrollIntoView({ behavior, block: "start" });
}

/** What goes on above, for someone who is further down in the gallery. */
function Above({ session }) {
  const [isAbove, setAbove] = useState(false);
  useEffect(() => {
    const watcher = new IntersectionObserver(([entry]) =>
      setAbove(!entry.isIntersecting && entry.boundingClientRect.bottom <= 0),
    );
    watcher.observe(document.getElementById("canvas"));
    return () => watcher.disconnect();
  }, []);
  const number = session.pictures.inWork().length + session.orders.waiting.length;
  if (!isAbove || !number) return null;
  return html`
    <button class="above" onClick=${toCanvas}>${icon("up")} ${words.count(number, "picture")} in progress</button>
  `;
}

/** The id of the open picture is in the address, so that the back button closes it. */
function useViewer(session) {
  const [id, setId] = useState(opened);
  useEffect(() => {
    const follow = () => setId(opened());
    addEventListener("popstate", follow);
    return () => removeEventListener("popstate", follow);
  }, []);
  const shownId = session.history.isLoaded ? id : null;
  const { pictures } = session;
  useEffect(() => {
    session.openId = shownId;
    if (shownId) session.complete(shownId);
  }, [shownId]);

  const close = () => {
    if (history.state?.isOurs) return history.back();
    history.replaceState(null, "", addressWith(null, ""));
    setId(null);
  };
  const isGone = shownId !== null && pictures.isGone(shownId);
  useEffect(() => {
    if (isGone) close();
  }, [isGone]);

  const known = shownId && pictures.get(shownId);
  return {
    image: known?.status === "completed" && !pictures.hidden.has(shownId) ? known : null,
    open(next) {
      history.pushState({ isOurs: true }, "", addressWith(null, `#${next}`));
      setId(next);
    },
    move(next) {
      history.replaceState(history.state, "", addressWith(null, `#${next}`));
      setId(next);
    },
    close,
  };
}

const opened = () => /^#([0-9a-f-]{36})$/.exec(location.hash)?.[1] ?? null;

function useShortcuts(actions) {
  const latest = useRef(actions);
  latest.current = actions;
  useEffect(() => {
    const onKey = (event) => {
      if (!(event.ctrlKey || event.metaKey) || document.querySelector("dialog.modal")) return;
      const isText = event.target.matches("input, textarea, select");
      if (event.key === "Enter") latest.current.generate();
      else if (event.key === "z" && !isText) latest.current.undo();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

/** The title shows the progress, and what has ended meanwhile, for a tab in the background. */
function useTitle(session) {
  const inWork = session.pictures.inWork();
  const painting = inWork.find(({ progress }) => progress);
  const percent = painting && Math.floor((100 * painting.progress.step) / painting.progress.steps);
  const waiting = inWork.length ? `${words.count(inWork.length, "picture")} in progress – ` : "";
  const { done, failed } = session.attention;
  const ended = [done && `${done} done`, failed && `${failed} failed`].filter(Boolean).join(", ");
  const title = `${ended && `${ended} – `}${painting ? `${percent} % – ` : waiting}Darkroom`;
  useEffect(() => {
    document.title = title;
  }, [title]);
}

function Connection({ state }) {
  if (state !== "offline") return null;
  return html`
    <p class="offline">
      ${icon("offline")} Offline. This page may be out of date. It reconnects automatically.
    </p>
  `;
}
