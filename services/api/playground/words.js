// The texts of the page: error messages with advice, and times and sizes in a readable form.

import * as clock from "./clock.js";

/** For each code of an image's error: what happened, and what to do. */
const FAILURES = {
  inference_refused: ["The image service refused this request.", "Change the prompt or the settings, then try again."],
  inference_failed: [
    "The image service failed three times.",
    "Try again later. This request does not count against your limit.",
  ],
  inference_unreachable: ["The image service cannot be reached.", "You do not need to do anything: it is tried again."],
  bad_image: [
    "The image service did not return a valid picture.",
    "Try again. If it fails again, choose another model. This request does not count against your limit.",
  ],
  deadline: [
    "The picture was not ready in time.",
    "Try again with fewer steps. This request does not count against your limit.",
  ],
  worker_lost: [
    "The work on this picture was interrupted several times.",
    "Try again with fewer steps. This request does not count against your limit.",
  ],
};

export function failure(error) {
  const unknown = ["The picture could not be made.", "Try again, or change the settings."];
  const [what, advice] = FAILURES[error?.code] ?? unknown;
  return { what, advice, detail: error?.detail };
}

/** Why a queued image needs another attempt. */
const HITCHES = {
  inference_unreachable: "the image service cannot be reached",
  inference_failed: "the image service had an error",
  bad_image: "the image service did not return a valid picture",
  unavailable: "the storage does not respond",
};

export const hitch = (error) => HITCHES[error?.code] ?? "the last attempt failed";

/** For each code of a problem: why the api refused the request. */
const PROBLEMS = {
  waiting_limit: "You have reached the number of pictures that may wait. Wait for one to start, or cancel one.",
  concurrent_limit: "You have reached the number of pictures at the same time. Wait for one to finish, or cancel one.",
  unauthorized: "Please sign in first.",
  unavailable: "The server is busy. Please try again in a moment.",
  share_limit: "This picture has as many links as it can have. Revoke one first.",
  share_links_off: "This server does not offer share links any more.",
  already_final: "This picture is already finished.",
  image_not_found: "This picture no longer exists.",
};

export function problem(error) {
  if (!error.status) return "The server cannot be reached.";
  if (error.code === "hourly_limit") return `Hourly limit reached. Next picture ${within(error.retryAfterS)}.`;
  const fields = Object.entries(error.fields).map(([name, message]) => `${name}: ${message}`);
  if (fields.length) return `Some settings are not valid: ${fields.join("; ")}.`;
  return PROBLEMS[error.code] ?? `The request failed: ${error.message}.`;
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** Which of a batch it is: `2 of 4`. */
export const oneOf = ({ batch }) => `${batch.index + 1} of ${batch.count}`;

/** How many there are of a list: `12`, `more than 1,000`. */
export const total = ({ total, isCapped }) => `${isCapped ? "more than " : ""}${total.toLocaleString("en")}`;

const ORDINALS = new Intl.PluralRules("en", { type: "ordinal" });
const ENDINGS = { one: "st", two: "nd", few: "rd", other: "th" };
const MAX_RANKED = 1000; // the server reports every later position as 1001

/** The position of a request in the queue. */
export function place(number) {
  if (number === 1) return "Next in line";
  if (number > MAX_RANKED) return `More than ${MAX_RANKED.toLocaleString("en")} ahead in the queue`;
  return `${number.toLocaleString("en")}${ENDINGS[ORDINALS.select(number)]} in the queue`;
}

/** The estimated position of a request that waits for its turn. */
export function about(number) {
  return number === 1 || number > MAX_RANKED ? place(number) : `About ${place(number)}`;
}

/** `40 s`, `12 min`, `2 h`. */
export function span(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

export const seconds = (value) => (value < 10 ? `${value.toFixed(1)} s` : span(value));

/** `42 s`, `1 min 35 s`, `1 h 5 min`: every second is seen to pass, at first. */
export function elapsed(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

const within = (seconds) => (seconds ? `in ${span(seconds)}` : "soon");

export const until = (iso) => (new Date(iso) - clock.now()) / 1000;
export const since = (iso) => -until(iso);

export const moment = (iso) => new Date(iso).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
export const day = (iso) => new Date(iso).toLocaleDateString([], { dateStyle: "medium" });

// made once: making one takes longer than hundreds of dates
const dayAndMonth = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long" });
const dayMonthAndYear = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" });

/** The heading of a day: `Today`, `Yesterday`, `12 November`, `12 November 2024`. */
export function dayName(iso) {
  const date = new Date(iso);
  const daysAgo = Math.round((startOfDay(new Date()) - startOfDay(date)) / 86_400_000);
  if (daysAgo === 0) return "Today";
  if (daysAgo === 1) return "Yesterday";
  return (date.getFullYear() === new Date().getFullYear() ? dayAndMonth : dayMonthAndYear).format(date);
}

/** When the day of this time begins and ends here, as the api writes times. */
export function dayOf(iso) {
  const date = startOfDay(new Date(iso));
  const next = new Date(date.getFullYear(), date.getMonth(), date.getDate() + 1);
  return [date.toISOString(), next.toISOString()];
}

const startOfDay = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());

export function bytes(size) {
  if (size < 1_000_000) return `${Math.max(1, Math.round(size / 1000))} kB`;
  return `${(size / 1_000_000).toFixed(1)} MB`;
}

export const brief = (text, length = 80) => (text.length <= length ? text : `${text.slice(0, length - 1).trimEnd()}…`);

/** The URL of a download: the server names the file by the first words of the prompt and the seed. */
export const downloadUrl = ({ imageUrl }) => `${imageUrl}${imageUrl.includes("?") ? "&" : "?"}download=1`;
