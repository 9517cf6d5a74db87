// A button that opens a list below it. Escape closes the list, and so does a focus elsewhere.

import { html, useRef, useState } from "./vendor/htm-preact.js";

/** `children` is called with a function that closes; the focus then goes to the element `focusAfter`, or to the button. */
export function Disclosure({ id, className, label, title, name, focusAfter, children }) {
  const [isOpen, setOpen] = useState(false);
  const whole = useRef(null);
  const close = () => {
    setOpen(false);
    (document.getElementById(focusAfter) ?? whole.current.querySelector("button")).focus();
  };
  return html`
    <div
      class=${className}
      ref=${whole}
      onFocusOut=${({ relatedTarget }) => whole.current?.contains(relatedTarget) || setOpen(false)}
      onKeyDown=${(event) => isOpen && event.key === "Escape" && close()}
    >
      <button
        type="button"
        class="quiet"
        aria-expanded=${String(isOpen)}
        aria-controls=${id}
        title=${title}
        onClick=${() => setOpen(!isOpen)}
      >
        ${label}
      </button>
      <div id=${id} class="recalls" role="group" aria-label=${name} tabindex="-1" hidden=${!isOpen}>
        ${isOpen && children(close)}
      </div>
    </div>
  `;
}
