// The page /cell/: cells one below the other, or the one that a permalink leads to.

import { Cell } from "./cell.js";
import { named, rootOf, styled } from "./cells.js";
import { Kernels } from "./kernels.js";
import { COMMON, kernelspecs } from "./languages.js";
import { find } from "./permalink.js";

/** What is kept over a reload. */
const KEPT = "runner.cells";
/** Milliseconds from a change until it is kept. */
const PAUSE = 300;

const $ = (id) => document.getElementById(id);
const kernels = new Kernels(true);
const cells = [];
let languages = [];
let count = 0;
let timer = 0;

function add({ code = "", language = "python", states = [] } = {}) {
  const known = languages.some(({ id }) => id === language);
  const title = `Cell ${count += 1}`;
  const cell = new Cell({ kernels, languages, language: known ? language : "python", code, states, title });
  const host = document.createElement("div");
  rootOf(host).append(cell.element);
  const away = document.createElement("button");
  Object.assign(away, { type: "button", className: "away", textContent: "×", title: "Remove this cell" });
  away.setAttribute("aria-label", `Remove ${title}`);
  away.addEventListener("click", () => remove(cell, host));
  cell.face.bar.append(away);
  cell.changed = keep;
  cells.push(cell);
  $("cells").append(host);
  return cell;
}

async function remove(cell, host) {
  const at = cells.indexOf(cell);
  cells.splice(at, 1);
  (cells[at] ?? cells[at - 1])?.editor.focus();
  host.remove();
  if (!cells.length) add().editor.focus();
  keep();
  await cell.remove();
}

/** Keeps what stands in the cells, for when the page is loaded again. */
function keep() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    const all = cells.map(({ code, language }) => ({ code, language }));
    try {
      sessionStorage.setItem(KEPT, JSON.stringify({ isLinked: kernels.isLinked, all, query: location.search }));
    } catch {
      // There is no storage, or no room in it.
    }
  }, PAUSE);
}

function kept() {
  try {
    const known = JSON.parse(sessionStorage.getItem(KEPT));
    return known?.query === location.search && known.all.length ? known : null;
  } catch {
    return null;
  }
}

async function begin() {
  const query = new URLSearchParams(location.search);
  const problem = $("problem");
  languages = [...(await named(COMMON)), ...(await kernelspecs())];
  await styled;
  const before = kept();
  if (before) {
    kernels.isLinked = before.isLinked;
    for (const one of before.all) add(one);
  } else {
    const found = await find(query).catch((error) => {
      problem.textContent = error.message;
      problem.hidden = false;
      return null;
    });
    const language = found?.language === "sage" ? "python" : found?.language ?? query.get("lang");
    add({ code: found?.code, language: language ?? "python", states: found?.interacts });
  }
  const wish = query.get("autoeval");
  if (wish !== null && wish !== "false" && cells[0].code) cells[0].run();
  else if (matchMedia("(hover: hover)").matches) cells[0].editor.focus();
  $("linked").checked = kernels.isLinked;
  $("restart").disabled = !kernels.isLinked;
  $("tools").hidden = false;
}

$("add").addEventListener("click", () => {
  add({ language: cells.at(-1)?.language }).editor.focus();
  keep();
});
$("linked").addEventListener("change", async ({ target }) => {
  kernels.isLinked = target.checked;
  $("restart").disabled = !target.checked;
  keep();
  if (!target.checked) await kernels.restart();
});
$("restart").addEventListener("click", async () => {
  await kernels.restart();
  $("said").textContent = "The variables are gone; the next run begins anew.";
});
begin();
