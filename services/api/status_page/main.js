// Starts the page: one reader of the status, rendered into the body.

import { html, render } from "../playground/vendor/htm-preact.js";
import { Page } from "./page.js";
import { StatusReader } from "./reader.js";

const reader = new StatusReader();
render(html`<${Page} reader=${reader} />`, document.body);
reader.read();
