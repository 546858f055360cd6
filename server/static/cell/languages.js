// The languages of cells: how code becomes what a kernel runs.

import { ask } from "./server.js";

/** What Python runs for other languages. */
const NAMES = {
  python: "Python", sage: "Sage", html: "HTML", sh: "Shell", r: "R", octave: "Octave", maxima: "Maxima", gap: "GAP",
  gp: "PARI/GP", singular: "Singular",
};
/** What is offered where nobody says. */
export const COMMON = ["python", "html", "sh", "r", "octave", "maxima", "gap", "gp", "singular"];

let specs = null;

/** The languages with kernels of their own: `{id, name}`. */
export function kernelspecs() {
  specs ??= ask("GET", "api/kernelspecs", { credentials: "same-origin" })
    .then((answer) => answer.json())
    .then(({ kernelspecs: all }) => Object.values(all)
      .filter(({ name, spec }) => spec?.language !== "python" && !Object.hasOwn(NAMES, name))
      .map(({ name, spec }) => ({ id: name, name: spec?.display_name || name })))
    .catch(() => []);
  return specs;
}

/** What people call a language. */
export function nameOf(id) {
  return Object.hasOwn(NAMES, id) ? NAMES[id] : id;
}

/** The kernelspec of a language; "" for what Python runs. */
export function specOf(id) {
  return Object.hasOwn(NAMES, id) ? "" : id;
}

/** The code as its kernel takes it. */
export function wrap(id, code) {
  if (id === "python" || id === "sage" || specOf(id)) return code;
  const quoted = `"""${code.replace(/[\\"]/g, "\\$&")}"""`;
  if (id === "html") return `html(${quoted})`;
  const run = `print(${id}.eval(${quoted}))`;
  if (id !== "r") return run;
  return `r.eval("options(bitmapType='cairo')"); ${run}\nr.eval("graphics.off()"); None`;
}
