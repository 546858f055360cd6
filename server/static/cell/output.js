// What is said in a cell, or by an interact in it: shown a frame at a time, and not more at once than a page can bear.

import { show } from "./media.js";
import { Stream, colorful } from "./stream.js";

/** Milliseconds of a frame that go into showing output. */
const SLICE = 8;
/** Milliseconds after which output is shown in any case. */
const LATEST = 200;
/** Characters of text that are shown at once, and as how many each other output counts. */
const BUDGET = 300_000;
const OTHER = 1_500;
/** Characters of text that are added in one step. */
const STEP = 40_000;
/** Characters of output that wait to be shown; what comes then is dropped, which is said. */
const MOST_WAITING = 32_000_000;

export class Output {
  #queue = [];
  #waiting = 0;
  #dropped = 0;
  #budget = BUDGET;
  #stream = null;
  #clearsNext = false;
  #isScheduled = false;
  #more = null;
  #timer = 0;

  /** `special(type, message, output)` may take a message for itself, and answers whether it did. */
  constructor(element, kernel, special) {
    this.element = element;
    this.kernel = kernel;
    this.special = special;
    /** The first characters of what was said, for who does not see it. */
    this.heading = "";
  }

  /** Takes a message of a kernel. */
  push(message) {
    const { type, content } = message;
    if (type === "clear_output") {
      if (content.wait) this.#clearsNext = true;
      else this.clear();
      return;
    }
    if (this.#clearsNext) this.clear();
    if (type === "update_display_data") {
      this.#update(content);
      return;
    }
    if (!["stream", "display_data", "execute_result", "error"].includes(type)) return;
    const size = type === "stream" ? content.text.length : OTHER;
    if (this.#waiting + size > MOST_WAITING) {
      this.#dropped += size;
      return;
    }
    this.#waiting += size;
    const last = this.#queue.at(-1);
    if (type === "stream" && last?.parts && last.name === content.name) last.parts.push(content.text);
    else if (type === "stream") this.#queue.push({ name: content.name, parts: [content.text] });
    else this.#queue.push(message);
    this.#schedule();
  }

  /** Takes all away; with `wait`, when the next output comes. */
  clear(wait = false) {
    if (wait) {
      this.#clearsNext = true;
      return;
    }
    this.#clearsNext = false;
    this.#queue = [];
    this.#waiting = this.#dropped = 0;
    this.#budget = BUDGET;
    this.#stream = this.#more = null;
    this.heading = "";
    this.element.replaceChildren();
  }

  /** No more comes: what was to be cleared by the next output is cleared now. */
  finish() {
    if (this.#clearsNext) this.clear();
  }

  /** Resolves when all is shown that may be. */
  shown() {
    return new Promise((done) => {
      const look = () => (this.#isScheduled ? setTimeout(look, 10) : done());
      look();
    });
  }

  /** Adds an element of the page's own. */
  add(element) {
    this.#stream = null;
    if (this.#more) this.#more.before(element);
    else this.element.append(element);
  }

  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const flush = () => {
      if (this.#timer === 0) return;
      clearTimeout(this.#timer);
      this.#timer = 0;
      this.#flush();
    };
    // Pages in the background have no frames.
    this.#timer = setTimeout(flush, LATEST);
    requestAnimationFrame(flush);
  }

  #flush() {
    this.#isScheduled = false;
    const end = performance.now() + SLICE;
    while (this.#queue.length && this.#budget > 0) {
      if (performance.now() > end) {
        this.#schedule();
        return;
      }
      this.#showNext();
    }
    this.#offerMore();
  }

  #showNext() {
    const next = this.#queue[0];
    if (!next.parts) {
      this.#queue.shift();
      this.#waiting -= OTHER;
      this.#budget -= OTHER;
      this.#show(next);
      return;
    }
    const whole = next.parts.join("");
    let size = Math.min(whole.length, this.#budget, STEP);
    // Not within a line, if it has an end near.
    if (size < whole.length) size = whole.lastIndexOf("\n", size) + 1 || size;
    next.parts = [whole.slice(size)];
    if (size === whole.length) this.#queue.shift();
    this.#waiting -= size;
    this.#budget -= size;
    if (this.#stream?.name !== next.name) {
      const stream = new Stream(next.name);
      this.add(stream.element);
      this.#stream = stream;
    }
    const shown = whole.slice(0, size);
    this.#stream.write(shown);
    this.#remember(shown);
  }

  #remember(text) {
    if (this.heading.length < 200) this.heading = (this.heading + text.slice(0, 400)).slice(0, 200);
  }

  #show(message) {
    const { type, content } = message;
    if (type === "error") {
      const trace = content.traceback?.length ? content.traceback.join("\n") : `${content.ename}: ${content.evalue}`;
      this.add(colorful(trace, "error"));
      return;
    }
    if (this.special(message, this)) return;
    const place = document.createElement("div");
    place.className = type === "execute_result" ? "rich result-of-cell" : "rich";
    place.append(show(content.data ?? {}, content.metadata ?? {}, this.kernel));
    this.add(place);
    this.#remember(String(content.data?.["text/plain"] ?? ""));
    const name = content.transient?.display_id;
    if (name) this.kernel.displays(name).add(place);
  }

  /** Changes what was shown under a name. It may still wait to be shown. */
  #update({ data = {}, metadata = {}, transient }) {
    const name = transient?.display_id;
    if (!name) return;
    for (const waiting of this.#queue) {
      if (waiting.content?.transient?.display_id === name) Object.assign(waiting.content, { data, metadata });
    }
    const places = this.kernel.displays(name);
    for (const place of places) {
      if (place.isConnected) place.replaceChildren(show(data, metadata, this.kernel));
      else places.delete(place);
    }
  }

  #offerMore() {
    this.#more?.remove();
    this.#more = null;
    if (!this.#queue.length && !this.#dropped) return;
    this.#more = document.createElement("div");
    this.#more.className = "more";
    if (this.#queue.length) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `Show more (${size(this.#waiting)})`;
      button.addEventListener("click", () => {
        this.#budget = BUDGET;
        this.#schedule();
      });
      this.#more.append(button);
    }
    if (this.#dropped) this.#more.append(` ${size(this.#dropped)} of output were more than a page can hold.`);
    this.element.append(this.#more);
  }
}

function size(characters) {
  if (characters < 10_000) return `${characters} characters`;
  return characters < 1_000_000 ? `${Math.round(characters / 1000)} kB` : `${(characters / 1_000_000).toFixed(1)} MB`;
}
