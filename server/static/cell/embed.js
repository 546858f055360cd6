// Puts cells into any page: <script src="…/cell/embed.js"></script> makes one of each <div class="sage"> with a
// <script type="text/x-sage"> in it. `runnerCells.make({…})`, which is also `sagecell.makeSagecell({…})`, makes them as one wants.

(() => {
  "use strict";

  const script = document.currentScript;
  const isHere = /\/cell\/[^/]*$/.test(new URL(script.src).pathname);
  const home = new URL(isHere ? "./" : "../cell/", script.src);
  let loading = null;
  const load = () => (loading ??= import(new URL("cells.js", home).href));

  /** Asked for by the page itself: these places are not made by themselves. */
  const chosen = [];

  /** Makes cells. `ready` of what it gives is a promise of them. */
  function make(options = {}) {
    const { inputLocation, template } = options;
    chosen.push(inputLocation ?? template?.inputLocation);
    const info = {};
    info.ready = whenParsed().then(load).then(({ make: makeCells }) => makeCells(options)).then((cells) => {
      info.cells = cells;
      return cells;
    });
    info.ready.catch((error) => console.error("cells:", error));
    return info;
  }

  /** Takes away what `make` made. */
  async function remove(info) {
    const { remove: removeCell } = await load();
    for (const cell of await info.ready) await removeCell(cell);
  }

  function whenParsed() {
    if (document.readyState !== "loading") return Promise.resolve();
    return new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
  }

  window.runnerCells = { make, remove };
  window.sagecell = {
    makeSagecell: make,
    deleteSagecell: remove,
    templates: {
      minimal: { editor: "textarea-readonly", hide: ["editor", "files", "permalink"] },
      restricted: { editor: "codemirror-readonly", hide: ["files", "permalink"] },
    },
    allLanguages: ["sage", "python", "html", "sh", "r", "octave", "maxima", "gap", "gp", "singular"],
    ...window.sagecell,
  };

  if (script.dataset.auto === "off" || !isHere) return;
  whenParsed().then(() => {
    const places = [...document.querySelectorAll(".sage")].filter((place) => place.querySelector(':scope > script[type="text/x-sage"]'));
    const isChosen = (place) => chosen.some((location) => {
      if (typeof location === "string") return place.matches(location);
      return location === place || (location && !(location instanceof Element) && [...location].includes(place));
    });
    const left = places.filter((place) => !isChosen(place));
    // Each may say for itself what it wants.
    for (const place of left) {
      const { languages, language, linked, autoeval, hide, evalButtonText, linkKey } = place.dataset;
      const words = (text) => text?.split(/[\s,]+/).filter(Boolean);
      const is = (text) => text !== undefined && text !== "false";
      make({
        inputLocation: place, languages: words(languages), defaultLanguage: language, linked: is(linked), linkKey,
        autoeval: is(autoeval), hide: words(hide), evalButtonText,
      });
    }
  });
})();
