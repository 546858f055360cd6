// What is asked or told in a dialog: the terms of service, and links to share.

import { html } from "./media.js";
import { acceptTerms, termsToAccept } from "./server.js";

let asking = null;

/** Whether the terms of service, if there are any, are accepted: asks if nobody did. */
export async function agree(root) {
  // Several cells may begin at once; one question is enough.
  asking ??= askOnce(root).finally(() => { asking = null; });
  return asking;
}

async function askOnce(root) {
  const terms = await termsToAccept();
  if (terms === null) return true;
  const answer = await open(root, "Terms of service", (dialog) => {
    const body = element("div", { className: "terms", tabIndex: 0 }, html(terms));
    dialog.append(body, buttons(dialog, ["Accept", "accept", "primary"], ["Decline", ""]));
  });
  if (answer !== "accept") return false;
  acceptTerms();
  return true;
}

/** Shows the links to a cell; the short one is copied at once, if the browser lets us. */
export function showLinks(root, { short, long }) {
  return open(root, "Link to this cell", (dialog) => {
    const said = element("p", { className: "said" });
    said.setAttribute("role", "status");
    const row = (label, url) => {
      const input = element("input", { value: url, readOnly: true });
      input.addEventListener("focus", () => input.select());
      const copy = element("button", { type: "button", textContent: "Copy" });
      copy.setAttribute("aria-label", `Copy: ${label}`);
      copy.addEventListener("click", async () => {
        said.textContent = (await copied(url, input)) ? "Copied." : "Press Ctrl-C to copy.";
      });
      return element("div", { className: "link" }, element("label", {}, label, input), copy);
    };
    dialog.append(
      row("Short link, kept by this server", short),
      row("Long link, which has the code in itself", long),
      said,
      buttons(dialog, ["Close", ""]),
    );
    navigator.clipboard?.writeText(short).then(() => { said.textContent = "The short link is copied."; }, () => {});
  });
}

async function copied(text, input) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without TLS there is no clipboard, but there is the old way.
    input.select();
    return document.execCommand("copy");
  }
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function buttons(dialog, ...all) {
  const made = all.map(([text, value, className = ""]) => {
    const button = element("button", { type: "button", textContent: text, className });
    button.addEventListener("click", () => dialog.close(value));
    return button;
  });
  return element("div", { className: "line" }, ...made);
}

/** Opens a dialog, and waits for how it is closed. */
function open(root, title, fill) {
  const dialog = element("dialog", {}, element("h2", { textContent: title }));
  dialog.setAttribute("aria-label", title);
  fill(dialog);
  root.append(dialog);
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => {
    dialog.remove();
    done(dialog.returnValue);
  }));
}
