// A field for code: Tab indents or completes, Shift-Enter runs, the height follows the text, and code is coloured.

import { highlighted } from "./highlight.js";

const INDENT = 4;
/** Completions that are listed. */
const MOST = 200;

let count = 0;

export class Editor {
  #list = null;
  #chosen = 0;
  #completion = null;
  #isLeaving = false;

  /** `run()`; `complete(code, position)` gives `{matches, start, end}`, positions in UTF-16; `say(text)` for who does not see. */
  constructor({ label, language, run, complete, say, changed = () => {} }) {
    this.language = language;
    this.handlers = { run, complete, say, changed };
    this.id = `editor-${count += 1}`;
    this.element = element("div", "editor");
    this.code = element("pre", "shown-code");
    this.code.setAttribute("aria-hidden", "true");
    this.field = element("textarea", "field");
    Object.assign(this.field, { spellcheck: false, autocapitalize: "off", autocomplete: "off", rows: 1, wrap: "off" });
    this.field.setAttribute("autocorrect", "off");
    this.field.setAttribute("aria-label", label);
    this.field.setAttribute("aria-autocomplete", "list");
    /** How it is used, to be shown somewhere near. */
    this.hint = element("span", "hint");
    this.hint.id = `${this.id}-hint`;
    this.hint.textContent = "Shift-Enter runs, Tab completes, Escape then Tab leaves";
    this.field.setAttribute("aria-describedby", this.hint.id);
    this.scroller = element("div", "scroller");
    this.scroller.append(this.code, this.field);
    this.element.append(this.scroller);
    this.field.addEventListener("input", () => {
      this.#close();
      this.#show();
      changed();
    });
    this.field.addEventListener("keydown", (event) => this.#key(event));
    this.field.addEventListener("blur", () => {
      this.#isLeaving = false;
      this.#close();
    });
    this.field.addEventListener("pointerdown", () => this.#close());
    this.#show();
  }

  get value() {
    return this.field.value;
  }

  set value(text) {
    this.field.value = text;
    this.#show();
  }

  set readonly(is) {
    this.field.readOnly = is;
  }

  setLanguage(language) {
    this.language = language;
    this.#show();
  }

  focus() {
    this.field.focus();
  }

  #show() {
    this.code.replaceChildren(highlighted(this.field.value, this.language));
  }

  #key(event) {
    const { key, shiftKey, ctrlKey, metaKey } = event;
    if (event.isComposing) return;
    if (key === "Enter" && (shiftKey || ctrlKey || metaKey)) {
      event.preventDefault();
      this.#close();
      this.handlers.run();
    } else if (this.#list && this.#keyInList(event)) {
      event.preventDefault();
    } else if (key === "Escape") {
      this.#isLeaving = true;
    } else if (key === "Tab" && !ctrlKey && !metaKey && !event.altKey && !this.#isLeaving && !this.field.readOnly) {
      event.preventDefault();
      this.#tab(shiftKey);
    } else if (key === "Enter" && !this.field.readOnly) {
      event.preventDefault();
      this.#breakLine();
    } else if (key !== "Tab" && key !== "Shift") {
      this.#isLeaving = false;
    }
  }

  /** Puts text in place of what is selected, so that it can be undone. */
  #type(text, from = this.field.selectionStart, to = this.field.selectionEnd) {
    this.field.setSelectionRange(from, to);
    // Nothing else keeps the browser's history of a field.
    const isTyped = text === "" ? document.execCommand("delete") : document.execCommand("insertText", false, text);
    if (!isTyped) {
      this.field.setRangeText(text, from, to, "end");
      this.field.dispatchEvent(new Event("input"));
    }
  }

  #breakLine() {
    const { value, selectionStart } = this.field;
    const line = value.slice(value.lastIndexOf("\n", selectionStart - 1) + 1, selectionStart);
    const indent = line.match(/^[ \t]*/)[0];
    this.#type(`\n${indent}${/[:{([]\s*$/.test(line) ? " ".repeat(INDENT) : ""}`);
  }

  #tab(isBack) {
    const { value, selectionStart, selectionEnd } = this.field;
    const start = value.lastIndexOf("\n", selectionStart - 1) + 1;
    if (isBack || value.slice(selectionStart, selectionEnd).includes("\n")) {
      this.#indent(start, selectionEnd, isBack);
      return;
    }
    const before = value.slice(start, selectionStart);
    if (selectionStart === selectionEnd && /[\w.%\])"'/\u0080-\uffff]$/.test(before)) this.#complete();
    else this.#type(" ".repeat(INDENT - (before.length % INDENT)));
  }

  /** Moves all lines that are selected. */
  #indent(start, end, isBack) {
    const { selectionStart, value } = this.field;
    const lines = value.slice(start, end).split("\n");
    const moved = lines.map((line) => (isBack ? line.replace(new RegExp(`^(\t| {1,${INDENT}})`), "") : line && " ".repeat(INDENT) + line));
    const text = moved.join("\n");
    if (text === value.slice(start, end)) return;
    this.#type(text, start, end);
    if (lines.length > 1) this.field.setSelectionRange(start, start + text.length);
    else this.field.setSelectionRange(...Array(2).fill(Math.max(start, selectionStart + text.length - lines[0].length)));
  }

  // Completion //////////////////////////////////////////////////////////////////////////////////

  async #complete() {
    const { value, selectionStart } = this.field;
    this.handlers.say("Looking for completions.");
    const found = await this.handlers.complete(value, selectionStart);
    const isOld = value !== this.field.value || selectionStart !== this.field.selectionStart;
    if (isOld || this.field.getRootNode().activeElement !== this.field) return;
    if (!found?.matches.length) {
      this.handlers.say("No completions.");
      return;
    }
    if (found.matches.length === 1) {
      this.#type(found.matches[0], found.start, found.end);
      this.handlers.say(`Completed: ${found.matches[0]}`);
      return;
    }
    this.#open(found);
  }

  #open({ matches, start, end }) {
    this.#close();
    this.#completion = { matches: matches.slice(0, MOST), start, end };
    const list = element("ul", "completions");
    list.id = `${this.id}-list`;
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Completions");
    this.#completion.matches.forEach((match, at) => {
      const option = element("li", "");
      option.id = `${list.id}-${at}`;
      option.setAttribute("role", "option");
      option.textContent = match;
      option.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        this.#take(at);
      });
      list.append(option);
    });
    const before = this.field.value.slice(0, start).split("\n");
    list.style.setProperty("--row", before.length);
    list.style.setProperty("--column", before.at(-1).length);
    list.style.setProperty("--scrolled", `${this.scroller.scrollLeft}px`);
    this.element.append(list);
    this.#list = list;
    this.field.setAttribute("aria-controls", list.id);
    this.#choose(0);
    this.handlers.say(`${matches.length} completions. Up and down choose, Enter takes.`);
  }

  #close() {
    if (!this.#list) return;
    this.#list.remove();
    this.#list = null;
    this.field.removeAttribute("aria-controls");
    this.field.removeAttribute("aria-activedescendant");
  }

  #choose(at) {
    const options = this.#list.children;
    options[this.#chosen]?.setAttribute("aria-selected", "false");
    this.#chosen = (at + options.length) % options.length;
    const option = options[this.#chosen];
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.field.setAttribute("aria-activedescendant", option.id);
  }

  #take(at) {
    const { matches, start, end } = this.#completion;
    this.#close();
    this.#type(matches[at], start, end);
  }

  /** Whether the key was for the list. */
  #keyInList({ key, shiftKey }) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Tab: shiftKey ? -1 : 1 };
    if (Object.hasOwn(steps, key)) this.#choose(this.#chosen + steps[key]);
    else if (key === "Enter") this.#take(this.#chosen);
    else if (key === "Escape") this.#close();
    else return false;
    return true;
  }
}

function element(name, className) {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}
