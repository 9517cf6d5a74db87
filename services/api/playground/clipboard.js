// Copies a text to the clipboard.

/** `place` is an element inside the open dialog, outside of which nothing can be selected. */
export async function copyText(text, place) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // the clipboard API needs a secure origin and permission
    const shown = document.createElement("span");
    shown.textContent = text;
    place.append(shown);
    getSelection().selectAllChildren(shown);
    document.execCommand("copy");
    shown.remove();
  }
}
