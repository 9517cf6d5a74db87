// A picture that is dropped on the page: its settings are copied to the form.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

/** Shows where to drop while a file is over the page. `use` gets the settings of the picture. */
export function Dropping({ notices, use }) {
  const [isOver, setOver] = useState(false);
  const latest = useRef(use);
  latest.current = use;

  useEffect(() => {
    const over = (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault(); // otherwise the browser opens the file in place of the page
      setOver(true);
    };
    const leave = (event) => {
      if (!event.relatedTarget) setOver(false);
    };
    const drop = async (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(false);
      const settings = await read(event.dataTransfer.files[0]);
      if (settings) latest.current(settings);
      else notices.show("This file has no settings");
    };
    const listeners = { dragenter: over, dragover: over, dragleave: leave, drop };
    for (const [name, listener] of Object.entries(listeners)) addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(listeners)) removeEventListener(name, listener);
    };
  }, [notices]);

  return isOver && html`<p class="dropping" role="status">Drop the picture to use its settings</p>`;
}

async function read(file) {
  const { settingsIn } = await import("./embedded.js");
  return settingsIn(file).catch(() => null); // a folder, or a file that is gone
}
