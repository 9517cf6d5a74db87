// Asks for a bearer token if the api requires one. It is kept until the tab is closed, and sent with each request.

import { html, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";

export function SignIn({ session }) {
  const dialog = useRef(null);
  const [token, setToken] = useState("");
  useLayoutEffect(() => dialog.current.showModal(), []);
  const submit = (event) => {
    event.preventDefault();
    if (token.trim()) session.signIn(token.trim());
  };
  const reason = session.wasRefused
    ? "This token was not accepted. It may have expired."
    : "You need an access token to use this Darkroom.";
  return html`
    <dialog
      class="modal signin"
      ref=${dialog}
      aria-labelledby="signin-title"
      onCancel=${(event) => event.preventDefault()}
    >
      <form onSubmit=${submit}>
        <span class="lamp" aria-hidden="true"></span>
        <h2 id="signin-title">Sign in</h2>
        <p>${reason}</p>
        <p class="soft">
          Ask the person who runs this server for one. They create it with <code>darkroom keys create</code>, or it comes
          from your organisation's sign-in service.
        </p>
        <div class="field">
          <label for="token">Access token</label>
          <input
            id="token"
            type="password"
            autocomplete="off"
            spellcheck=${false}
            value=${token}
            onInput=${(event) => setToken(event.target.value)}
            autofocus
          />
        </div>
        <button class="primary">Sign in</button>
        <small>The token is stored in this tab only, until you close it.</small>
      </form>
    </dialog>
  `;
}
