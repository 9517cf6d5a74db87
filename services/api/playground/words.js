// The words of the page: what went wrong and what to do about it, times and sizes as people say them.

/** By the code of an image's error: what happened, what to do. */
const FAILURES = {
  inference_refused: [
    "The painting service refused this order.",
    "Change the prompt or the settings, then order again.",
  ],
  inference_failed: [
    "The painting service failed three times.",
    "Order it again in a while. This one does not count against your limit.",
  ],
  inference_unreachable: ["The painting service cannot be reached.", "Nothing to do: it is tried again."],
  bad_image: [
    "What came back was not a picture.",
    "Order it again; if it happens again, try another model. This one does not count.",
  ],
  deadline: ["It was not painted in time.", "Order it again; fewer steps are quicker. This one does not count."],
  worker_lost: ["The painting broke off again and again.", "Order it again with fewer steps. This one does not count."],
};

export function failure(error) {
  const unknown = ["It could not be painted.", "Order it again, or change the settings."];
  const [what, advice] = FAILURES[error?.code] ?? unknown;
  return { what, advice, detail: error?.detail };
}

/** Why an image that waits was not painted at the first try. */
const HITCHES = {
  inference_unreachable: "the painting service cannot be reached",
  inference_failed: "the painting service had a problem",
  bad_image: "what came back was not a picture",
  unavailable: "the pictures’ storage does not answer",
};

export const hitch = (error) => HITCHES[error?.code] ?? "the last try did not succeed";

/** By the code of a problem: why the api did not take what was asked. */
const PROBLEMS = {
  concurrent_limit: "All your places are taken. Wait for a picture to finish, or cancel one.",
  unauthorized: "Please sign in first.",
  unavailable: "The server is busy just now. Please try again in a moment.",
  already_final: "It was finished already.",
  image_not_found: "This picture is no longer there.",
};

export function problem(error) {
  if (!error.status) return "The server cannot be reached.";
  if (error.code === "hourly_limit") return `The limit of this hour is reached. One more ${within(error.retryAfterS)}.`;
  const fields = Object.entries(error.fields).map(([name, message]) => `${name}: ${message}`);
  if (fields.length) return `This cannot be ordered: ${fields.join("; ")}.`;
  return PROBLEMS[error.code] ?? `It did not work: ${error.message}.`;
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

const ORDINALS = new Intl.PluralRules("en", { type: "ordinal" });
const ENDINGS = { one: "st", two: "nd", few: "rd", other: "th" };
const PLACES_TOLD_APART = 1000;

/** Where an order stands in the queue; past the last place that is told apart it is not said how far. */
export function place(number) {
  if (number === 1) return "Next in line";
  if (number > PLACES_TOLD_APART) return `Behind ${count(PLACES_TOLD_APART, "other")} or more`;
  return `${number.toLocaleString("en")}${ENDINGS[ORDINALS.select(number)]} in the queue`;
}

/** `40 s`, `12 min`, `2 h`. */
export function span(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

export const seconds = (value) => (value < 10 ? `${value.toFixed(1)} s` : span(value));

const within = (seconds) => (seconds ? `in ${span(seconds)}` : "soon");

export const until = (iso) => (new Date(iso) - Date.now()) / 1000;

export const moment = (iso) => new Date(iso).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
export const day = (iso) => new Date(iso).toLocaleDateString([], { dateStyle: "medium" });

export function bytes(size) {
  if (size < 1_000_000) return `${Math.max(1, Math.round(size / 1000))} kB`;
  return `${(size / 1_000_000).toFixed(1)} MB`;
}

export const brief = (text, length = 80) => (text.length <= length ? text : `${text.slice(0, length - 1).trimEnd()}…`);
