// Links that lead to a cell.

import { address, ask } from "./server.js";

/** Bytes of code that are unpacked; more is no code. */
const MOST = 260_000;

/** Has the server keep a cell. Answers its short link, and the long one that has the cell in itself. */
export async function keep(code, language, interacts) {
  const answer = await ask("POST", "permalink", { fields: { code, language, interacts: JSON.stringify(interacts) } });
  const { query, zip } = await answer.json();
  const link = (words) => {
    const url = address("cell/");
    url.search = new URLSearchParams(words);
    return url.href;
  };
  return { short: link({ q: query }), long: link(language === "python" ? { z: zip } : { z: zip, lang: language }) };
}

/** The cell that a query leads to: `{code, language, interacts}`; null if it leads to none. */
export async function find(query) {
  const language = query.get("lang") ?? query.get("language");
  if (query.has("q")) {
    const answer = await ask("GET", `permalink?q=${encodeURIComponent(query.get("q"))}`);
    const [code, known, interacts] = await answer.json();
    return { code, language: language ?? known, interacts: states(interacts) };
  }
  if (query.has("z")) return { code: await unzip(query.get("z")), language, interacts: [] };
  if (query.has("c")) return { code: query.get("c"), language, interacts: [] };
  return null;
}

function states(text) {
  try {
    const all = JSON.parse(text);
    return Array.isArray(all) ? all : [];
  } catch {
    return [];
  }
}

async function unzip(text) {
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
    const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
    const decoder = new TextDecoder("utf-8", { fatal: true });
    let code = "";
    for (let size = 0; ;) {
      const { done, value } = await reader.read();
      if (done) return code + decoder.decode();
      size += value.length;
      if (size > MOST) {
        reader.cancel().catch(() => {});
        throw new Error("too much");
      }
      code += decoder.decode(value, { stream: true });
    }
  } catch {
    throw new Error("The link is broken: what stands in it is no code.");
  }
}
