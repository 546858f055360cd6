// An interact: its controls, its own output, and what is sent when somebody changes something.

import { make } from "./controls.js";
import { Output } from "./output.js";

const FILES = { _sagecell_files: "sys._sage_.new_files()" };

export class Interact {
  #changed = new Set();
  #isSending = false;
  #parts = new Map();

  /**
   * `cell.interacts` finds it by its id; `cell.replied(reply)` is told of the answers to its updates, `cell.heard` gets all
   * that is said meanwhile.
   */
  constructor(description, kernel, cell) {
    const { new_interact_id: id, controls = {}, layout = [], readonly = false } = description;
    this.id = id;
    this.kernel = kernel;
    this.cell = cell;
    this.element = document.createElement("fieldset");
    this.element.className = "interact";
    this.element.setAttribute("aria-label", "Interact");
    this.controls = new Map();
    for (const [name, spec] of Object.entries(controls)) {
      this.controls.set(name, make({ ...spec, name }, () => this.#touch(name)));
      this.#parts.set(name, this.controls.get(name).row);
    }
    const place = document.createElement("div");
    place.className = "interact-output";
    this.output = new Output(place, kernel, cell.special);
    this.#parts.set("_output", place);
    this.#lay(layout);
    if (readonly) this.#disable();
  }

  /** Puts the controls into their rows; what has none comes before the output. */
  #lay(layout) {
    const placed = new Set(layout.flat().map(([name]) => name));
    const row = (entries) => {
      const element = document.createElement("div");
      element.className = "row";
      for (const [name, width] of entries) {
        const part = this.#parts.get(name) ?? document.createElement("span");
        part.style.flex = `${Number(width) || 1} 1 0`;
        element.append(part);
      }
      return element;
    };
    const missing = [...this.controls.keys()].filter((name) => !placed.has(name));
    const rows = layout.map(row);
    const before = layout.findIndex((entries) => entries.some(([name]) => name === "_output"));
    rows.splice(before < 0 ? rows.length : before, 0, ...missing.map((name) => row([[name, 1]])));
    this.element.append(...rows);
  }

  /** The values as a permalink keeps them. */
  get state() {
    const kept = [...this.controls].filter(([, control]) => !control.isPress && !control.isSilent);
    return Object.fromEntries(kept.map(([name, control]) => [name, control.value]));
  }

  /** Sets what a permalink kept. */
  restore(state) {
    const names = Object.keys(state ?? {}).filter((name) => this.controls.has(name));
    for (const name of names) {
      this.controls.get(name).set(state[name]);
      this.#changed.add(name);
    }
    if (names.length) this.#send(true);
  }

  /** Shows a value that the kernel has set. */
  set(name, value) {
    this.controls.get(name)?.set(value);
  }

  /** The function runs: its output begins anew, when there is some. */
  began(names) {
    for (const name of names) this.controls.get(name)?.row.classList.remove("changed");
    this.output.clear(true);
  }

  /** The kernel has ended, and nobody answers. */
  #disable() {
    this.element.disabled = true;
  }

  end() {
    this.#disable();
  }

  #touch(name) {
    this.#changed.add(name);
    this.controls.get(name).row.classList.add("changed");
    this.#send(false);
  }

  /** One update at a time; what changes meanwhile goes with the next, with its last value. */
  async #send(isLast) {
    if (this.#isSending || this.element.disabled) return;
    this.#isSending = true;
    this.element.setAttribute("aria-busy", "true");
    while (this.#changed.size && !this.kernel.isDead) {
      const names = [...this.#changed];
      this.#changed.clear();
      const values = Object.fromEntries(names.map((name) => [name, this.controls.get(name).value]));
      const content = { interact_id: this.id, values, update_last: isLast, user_expressions: FILES };
      const reply = await this.kernel.request("sagenb.interact.update_interact", content, this.cell.heard);
      this.output.finish();
      this.cell.replied(reply, this);
    }
    this.#isSending = false;
    this.element.removeAttribute("aria-busy");
  }
}
