// Starts the page: one session, rendered into the body.

import { App } from "./app.js";
import { Session } from "./session.js";
import { html, render } from "./vendor/htm-preact.js";

const session = new Session();
render(html`<${App} session=${session} />`, document.body);
session.start();
