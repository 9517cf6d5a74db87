// Starts the page: one session, one form, drawn anew whenever either changes.

import { App } from "./app.js";
import { Session } from "./session.js";
import { html, render } from "./vendor/htm-preact.js";

const session = new Session();
render(html`<${App} session=${session} />`, document.body);
session.start();
