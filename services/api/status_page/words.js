// Numbers, sizes and times in a readable form.

const SIZES = ["B", "kB", "MB", "GB", "TB", "PB"];

export const count = (number) => (number == null ? "–" : number.toLocaleString("en"));

export function size(bytes) {
  let power = 0;
  let left = bytes;
  while (left >= 1000 && power < SIZES.length - 1) {
    left /= 1000;
    power += 1;
  }
  return `${left >= 100 || power === 0 ? Math.round(left) : left.toFixed(1)} ${SIZES[power]}`;
}

/** `42 s`, `5 min`, `3 h`, `2 days`. */
export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** The time until a moment, by the clock of the server; `late` if it is well past. */
export function until(moment, now) {
  if (!moment) return "never";
  const seconds = (Date.parse(moment) - Date.parse(now)) / 1000;
  if (seconds < -90) return "late";
  return seconds <= 0 ? "now" : `in ${duration(seconds)}`;
}

export const moment = (text) => (text ? new Date(text).toLocaleString() : "unknown time");
