// The icons of the page: lines in the colour of the text. They are decoration; a label is always beside them.

import { html } from "./vendor/htm-preact.js";

const PATHS = {
  alert: ["M12 8.5v4.5", "M12 16.4v.1", "M12 3.5 2.8 19.5h18.4z"],
  close: ["M6 6l12 12", "M18 6 6 18"],
  check: ["M5 12.5l4.5 4.5L19 7.5"],
  compare: ["M4 5h7v14H4z", "M13 5h7v14h-7z"],
  copy: ["M9 9h11v11H9z", "M15 9V4H4v11h5"],
  die: ["M4 4h16v16H4z", "M8.5 8.5v.1", "M15.5 8.5v.1", "M12 12v.1", "M8.5 15.5v.1", "M15.5 15.5v.1"],
  download: ["M12 4v11", "M7 10.5l5 5 5-5", "M5 20h14"],
  left: ["M14.5 5.5 8 12l6.5 6.5"],
  offline: [
    "M3 3l18 18",
    "M9 9.6A9 9 0 0 0 5.6 12",
    "M12.6 9a9 9 0 0 1 5.8 3",
    "M9 15.4a4.6 4.6 0 0 1 5.6-.3",
    "M12 19v.1",
  ],
  pin: ["M9 4h6l-.8 6.2L18 14H6l3.8-3.8z", "M12 14v6"],
  reuse: ["M4 7h9", "M17 7h3", "M15 5v4", "M4 17h3", "M11 17h9", "M9 15v4"],
  right: ["M9.5 5.5 16 12l-6.5 6.5"],
  search: ["M10.5 4.5a6 6 0 1 0 0 12 6 6 0 0 0 0-12z", "M15 15l5 5"],
  share: ["M12 15V4", "M8 7.5 12 3.5l4 4", "M7 11H5v9.5h14V11h-2"],
  settings: ["M4 7h9", "M17 7h3", "M15 5v4", "M4 17h3", "M11 17h9", "M9 15v4"],
  zoom: ["M10.5 4.5a6 6 0 1 0 0 12 6 6 0 0 0 0-12z", "M15 15l5 5", "M10.5 8v5", "M8 10.5h5"],
  up: ["M12 19V5.5", "M6 11l6-6 6 6"],
  trash: ["M5 7h14", "M9 7V4h6v3", "M7 7l1 13h8l1-13", "M10.5 11v5", "M13.5 11v5"],
};

export const icon = (name) => html`
  <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    ${PATHS[name].map((path) => html`<path d=${path} />`)}
  </svg>
`;

/** A rectangle in the ratio of a picture. */
export function shape(width, height) {
  const scale = 15 / Math.max(width, height);
  const [w, h] = [width * scale, height * scale];
  return html`
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <rect x=${12 - w / 2} y=${12 - h / 2} width=${w} height=${h} rx="1.5" />
    </svg>
  `;
}
