// Storage in the browser, between visits or until the tab is closed. A browser that stores nothing is not an error.

export function recall(storage, key) {
  try {
    return JSON.parse(storage.getItem(key));
  } catch {
    return null;
  }
}

export function remember(storage, key, value) {
  try {
    if (value == null) storage.removeItem(key);
    else storage.setItem(key, JSON.stringify(value));
  } catch {
    // full or not allowed: the page works without it
  }
}
