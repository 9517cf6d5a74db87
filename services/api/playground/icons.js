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
  gear: [
    "M10 5.4 10.4 2.7h3.2L14 5.4l1.2.5 2.2-1.6 2.3 2.3-1.6 2.2.5 1.2 2.7.4v3.2l-2.7.4-.5 1.2 1.6 2.2-2.3 2.3-2.2-1.6-1.2.5-.4 2.7h-3.2L10 18.6l-1.2-.5-2.2 1.6-2.3-2.3 1.6-2.2-.5-1.2-2.7-.4v-3.2l2.7-.4.5-1.2-1.6-2.2 2.3-2.3 2.2 1.6z",
    "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  ],
  left: ["M14.5 5.5 8 12l6.5 6.5"],
  moon: ["M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z"],
  more: ["M4 4h10v10H4z", "M17.5 8H20v12H8v-2.5", "M9 6.5v5", "M6.5 9h5"],
  offline: [
    "M3 3l18 18",
    "M9 9.6A9 9 0 0 0 5.6 12",
    "M12.6 9a9 9 0 0 1 5.8 3",
    "M9 15.4a4.6 4.6 0 0 1 5.6-.3",
    "M12 19v.1",
  ],
  pin: ["M9 4h6l-.8 6.2L18 14H6l3.8-3.8z", "M12 14v6"],
  recent: ["M4.2 10a8 8 0 1 1-.2 2.5", "M4 5v5h5", "M12 8v4.5l3 1.8"],
  reuse: ["M4 7h9", "M17 7h3", "M15 5v4", "M4 17h3", "M11 17h9", "M9 15v4"],
  right: ["M9.5 5.5 16 12l-6.5 6.5"],
  screen: ["M3.5 5h17v11h-17z", "M9 20h6", "M12 16v4"],
  search: ["M10.5 4.5a6 6 0 1 0 0 12 6 6 0 0 0 0-12z", "M15 15l5 5"],
  share: ["M12 15V4", "M8 7.5 12 3.5l4 4", "M7 11H5v9.5h14V11h-2"],
  settings: ["M4 7h9", "M17 7h3", "M15 5v4", "M4 17h3", "M11 17h9", "M9 15v4"],
  sun: [
    "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z",
    "M12 3v1.6M12 19.4V21M3 12h1.6M19.4 12H21M5.6 5.6l1.2 1.2M17.2 17.2l1.2 1.2M5.6 18.4l1.2-1.2M17.2 6.8l1.2-1.2",
  ],
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
