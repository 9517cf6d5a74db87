// The theme of the page: light, dark, or that of the system. The choice is kept in this browser, for all its tabs.
//
// A plain script in the head, not a module: it runs before the page is drawn, so the other theme never flashes up. So it
// imports nothing, and the page finds it as `window.theme`. The colours of both themes are in base.css.

(() => {
  const THEMES = ["system", "light", "dark"];
  const BARS = { light: "#f5f3f0", dark: "#0f0d0c" }; // the bar of the browser: --floor of base.css
  const FOLDER = new URL(".", document.baseURI).pathname;
  const KEY = FOLDER === "/" ? "darkroom.theme" : `${FOLDER} darkroom.theme`; // as `own` of memory.js does it

  function stored() {
    try {
      const value = JSON.parse(localStorage.getItem(KEY));
      return THEMES.includes(value) ? value : "system";
    } catch {
      return "system";
    }
  }

  function show(chosen) {
    theme.chosen = chosen;
    const isSystem = chosen === "system";
    if (isSystem) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    // until the style sheets are there, the browser paints the page by this
    document.querySelector("meta[name=color-scheme]").content = isSystem ? "dark light" : chosen;
    for (const bar of document.querySelectorAll("meta[name=theme-color]")) {
      bar.content = BARS[isSystem ? (bar.media.includes("light") ? "light" : "dark") : chosen];
    }
    dispatchEvent(new Event("theme"));
  }

  const theme = {
    chosen: "system",
    choose(chosen) {
      try {
        if (chosen === "system") localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, JSON.stringify(chosen));
      } catch {
        // not allowed: it lasts as long as the page
      }
      show(chosen);
    },
  };
  window.theme = theme;
  addEventListener("storage", ({ key }) => (key === KEY || key === null) && show(stored())); // chosen in another tab
  show(stored());
})();
