// Cells in places of a page: what `embed.js` offers to pages of others.

import { Cell } from "./cell.js";
import { Kernels } from "./kernels.js";
import { kernelspecs, nameOf, specOf } from "./languages.js";

/** What each place holds: its cell, and the code that it was made of. */
const places = new Map();
/** Cells with the same key share their kernels. */
const linked = new Map();

const sheet = new CSSStyleSheet();
/** Styles are there before cells are. */
export const styled = fetch(new URL("cell.css", import.meta.url), { credentials: "same-origin" })
  .then((answer) => answer.text())
  .then((text) => sheet.replace(text));

/** An element's own tree, which styles of the page do not reach. */
export function rootOf(element) {
  const root = element.shadowRoot ?? element.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = [sheet];
  return root;
}

/** `{id, name}` of languages by their ids; those with kernels of their own have the names that the server gives them. */
export async function named(ids) {
  const own = ids.some(specOf) ? await kernelspecs() : [];
  return ids.map((id) => ({ id, name: own.find((one) => one.id === id)?.name ?? nameOf(id) }));
}

/** Makes cells in all places that the options name. Resolves to the cells. */
export async function make(given) {
  const options = { ...given.template, ...given };
  await styled;
  const cells = [];
  for (const place of elements(options.inputLocation)) cells.push(await makeOne(place, options));
  for (const cell of cells) {
    options.callback?.call(cell.element, cell);
    if (options.autoeval) cell.run();
  }
  return cells;
}

/** Takes a cell away; its place has its code again. */
export async function remove(cell) {
  for (const [place, known] of places) {
    if (known.cell !== cell) continue;
    places.delete(place);
    await known.cell.remove();
    known.output?.remove();
    known.host.remove();
    place.append(...known.children);
  }
}

function elements(location) {
  if (!location) return [];
  if (typeof location === "string") return [...document.querySelectorAll(location)];
  return location instanceof Element ? [location] : [...location];
}

async function makeOne(place, options) {
  if (places.has(place)) await remove(places.get(place).cell);
  const children = [...place.childNodes];
  const code = options.code ?? codeIn(place);
  const ids = options.languages ?? [options.defaultLanguage ?? "python"];
  const languages = await named(ids);
  const language = ids.includes(options.defaultLanguage) ? options.defaultLanguage : ids[0];
  const cell = new Cell({
    kernels: kernelsFor(options),
    languages,
    language,
    code,
    hide: [...(options.hide ?? [])],
    runText: options.evalButtonText ?? "Run",
    isReadonly: String(options.editor ?? "").endsWith("readonly"),
  });
  const host = document.createElement("div");
  host.className = "runner-cell";
  rootOf(host).append(cell.element);
  place.replaceChildren(host);
  const known = { cell, host, children };
  const [elsewhere] = elements(options.outputLocation);
  if (elsewhere) {
    known.output = document.createElement("div");
    const frame = document.createElement("div");
    frame.className = "cell apart";
    frame.append(cell.face.results);
    rootOf(known.output).append(frame);
    elsewhere.append(known.output);
  }
  places.set(place, known);
  return cell;
}

/** The code of a place: in a script of a type that no browser runs, in a field, or as it stands there. */
function codeIn(place) {
  const held = place.querySelector('script[type^="text/x-"], script[type="text/code"], textarea, pre');
  const text = held?.value ?? held?.textContent ?? place.textContent;
  return text.replace(/^[ \t]*\n/, "").trimEnd();
}

function kernelsFor({ linked: isLinked, linkKey = "" }) {
  if (!isLinked) return new Kernels(false);
  if (!linked.has(linkKey)) linked.set(linkKey, new Kernels(true));
  return linked.get(linkKey);
}
