// What the browser keeps between visits, or for as long as the tab lives. A browser that keeps nothing is no error.

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
    // full, or forbidden: the page works without
  }
}
