// Storage in the browser, between visits or until the tab is closed. A browser that stores nothing is not an error.
//
// All pages of one host share it, but another path there may be another Darkroom, with other owners and tokens. So each
// key begins with the path of the page, except at the root of the host.

const FOLDER = new URL(".", document.baseURI).pathname;

/** The name in this Darkroom. */
export const own = (name) => (FOLDER === "/" ? name : `${FOLDER} ${name}`);

export function recall(storage, key) {
  try {
    return JSON.parse(storage.getItem(own(key)));
  } catch {
    return null;
  }
}

export function remember(storage, key, value) {
  try {
    if (value == null) storage.removeItem(own(key));
    else storage.setItem(own(key), JSON.stringify(value));
  } catch {
    // full or not allowed: the page works without it
  }
}
