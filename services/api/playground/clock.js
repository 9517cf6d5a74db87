// The time of the server. The clock of this computer may be wrong, and times of images are by the server's.

const TOLERATED_MS = 2_000; // the header Date has whole seconds, and the answer was under way

let aheadMs = 0;

export const now = () => Date.now() + aheadMs;

/** Compare with the header Date of an answer. */
export function compare(date) {
  const difference = Date.parse(date) - Date.now();
  if (Number.isFinite(difference)) aheadMs = Math.abs(difference) > TOLERATED_MS ? difference : 0;
}
