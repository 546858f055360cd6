// A cell: code, what is done with it, and what comes of it.

import { Editor } from "./editor.js";
import { Face } from "./face.js";
import { Interact } from "./interact.js";
import { wrap } from "./languages.js";
import { link } from "./media.js";
import { Output } from "./output.js";
import { keep } from "./permalink.js";
import { agree, showLinks } from "./dialogs.js";

/** What is asked of Python after each cell. */
const FILES = { _sagecell_files: "sys._sage_.new_files()" };

let count = 0;

export class Cell {
  #kernel = null;
  #watcher = null;
  #run = 0;
  #isRunning = false;
  #hasError = false;
  #uploads = new Map();
  #states = [];

  /**
   * `kernels`: where its kernel comes from. `languages`: `{id, name}` of each that may be chosen. `hide`: parts that are not
   * shown. `states`: what a permalink kept of interacts.
   */
  constructor({ kernels, languages, language, code = "", hide = [], runText = "Run", isReadonly = false, states = [], title }) {
    this.kernels = kernels;
    this.language = language;
    this.interacts = new Map();
    /** Is told when code or language have changed. */
    this.changed = () => {};
    this.#states = states;
    this.title = title ?? `Cell ${count += 1}`;
    this.face = new Face({ title: this.title, languages, language, hide, runText });
    this.editor = new Editor({
      label: `Code of ${this.title}`,
      language,
      run: () => this.run(),
      complete: (text, position) => this.#complete(text, position),
      say: (text) => this.face.say(text),
      changed: () => this.changed(),
    });
    this.editor.value = code;
    this.editor.readonly = isReadonly;
    this.face.editor.append(this.editor.element);
    this.face.bar.append(this.editor.hint);
    this.output = new Output(this.face.output, null, this.special);
    this.#connect();
  }

  /** The element that shows it. */
  get element() {
    return this.face.element;
  }

  get code() {
    return this.editor.value;
  }

  #connect() {
    const { run, stop, share, files, language } = this.face;
    run.addEventListener("click", () => this.run());
    stop.addEventListener("click", () => this.stop());
    share.addEventListener("click", () => this.share());
    files.addEventListener("change", () => {
      this.#addFiles([...files.files]);
      files.value = "";
    });
    language.addEventListener("change", () => {
      this.language = language.value;
      this.editor.setLanguage(this.language);
      this.changed();
    });
    if (files.hidden) return;
    this.element.addEventListener("dragover", (event) => {
      if ([...event.dataTransfer.types].includes("Files")) event.preventDefault();
    });
    this.element.addEventListener("drop", (event) => {
      if (!event.dataTransfer.files.length) return;
      event.preventDefault();
      this.#addFiles([...event.dataTransfer.files]);
    });
  }

  // Running /////////////////////////////////////////////////////////////////////////////////////

  /** Runs the code. Resolves when all of its output is shown. */
  async run() {
    if (this.#isRunning) {
      this.face.say("It still runs.");
      return;
    }
    this.#isRunning = true;
    this.#hasError = false;
    const number = this.#run += 1;
    this.face.begin();
    this.output.clear();
    this.face.newFiles.replaceChildren();
    this.interacts.clear();
    try {
      if (!(await agree(this.face.root))) {
        this.face.end("Nothing runs without accepting the terms.", "failed");
        return;
      }
      const kernel = await this.kernels.get(this, this.language, true);
      kernel.isUsed = true;
      this.#attach(kernel);
      await this.#sendFiles(kernel);
      this.face.working();
      const began = performance.now();
      const reply = await kernel.request("execute_request", this.#request(), (message) => {
        if (number === this.#run) this.heard(message);
      });
      const seconds = (performance.now() - began) / 1000;
      this.output.finish();
      await this.output.shown();
      this.#finish(reply, seconds);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#isRunning = false;
    }
  }

  #request() {
    const isPython = !this.#kernel.spec;
    return {
      code: wrap(this.language, this.code),
      silent: false,
      store_history: true,
      user_expressions: isPython ? FILES : {},
      allow_stdin: true,
      stop_on_error: true,
    };
  }

  #finish(reply, seconds) {
    this.face.removeQuestions();
    const { status, ename, evalue } = reply.content;
    const problem = status === "error" ? `${ename}: ${evalue}` : evalue;
    if (status === "ok") {
      const took = seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
      this.face.end(`Done in ${took}`, "done", `Done. ${this.output.heading}`);
    } else if (status === "aborted") {
      this.face.end("Not run: a cell before it failed.", "failed");
    } else if (this.#hasError) {
      this.face.end(ename === "KeyboardInterrupt" ? "Interrupted" : "Failed", "failed", `Failed. ${problem}`);
    } else {
      this.#fail(new Error(problem || "The cell failed."));
    }
    this.#showNewFiles(reply);
  }

  #fail(error) {
    this.face.removeQuestions();
    this.output.add(this.face.alert(error.message));
    this.face.end("Failed", "failed", error.message);
  }

  /** Interrupts what runs. */
  stop() {
    this.#kernel?.interrupt();
    this.face.say("Stopping.");
  }

  /** Takes it away, with the kernel that it has for itself. */
  async remove() {
    this.#run += 1;
    this.#kernel?.watchers.delete(this.#watcher);
    this.element.remove();
    await this.kernels.leave(this);
  }

  #attach(kernel) {
    this.output.kernel = kernel;
    if (this.#kernel === kernel) return;
    this.#kernel?.watchers.delete(this.#watcher);
    this.#kernel = kernel;
    this.#watcher = (state, why) => this.#kernelBecame(state, why);
    kernel.watchers.add(this.#watcher);
  }

  #kernelBecame(state, why) {
    if (state === "lost") this.face.tell("The connection is broken; trying to come back …");
    else if (state === "dead") {
      for (const interact of this.interacts.values()) interact.end();
      // Who did not run anything loses nothing.
      const isMissed = this.kernels.isLinked || this.#isRunning || this.interacts.size > 0;
      this.face.tell(isMissed ? `${why} The next run begins a new one.` : "");
    } else if (why) this.face.tell(why);
  }

  // Output //////////////////////////////////////////////////////////////////////////////////////

  /** Takes what a kernel says while it runs the cell or an update of an interact. */
  heard = (message) => {
    const { type, content, metadata = {} } = message;
    if (type === "input_request") {
      this.#ask(message);
      return;
    }
    if (type === "error") this.#hasError = true;
    const mark = metadata.interact_id;
    const interact = mark === undefined ? null : this.interacts.get(mark);
    const data = type === "display_data" ? content.data : {};
    if (data["application/sage-clear"]) {
      if (interact) interact.began(data["application/sage-clear"].changed ?? []);
      else if (mark === undefined) this.output.clear(true);
      return;
    }
    const update = data["application/sage-interact-update"];
    if (update) {
      this.interacts.get(update.interact_id)?.set(update.control, update.value);
      return;
    }
    if (mark !== undefined && !interact) return;
    if (data["application/sage-interact"]) {
      // What belongs into it may come before it is shown.
      const made = new Interact(data["application/sage-interact"], this.#kernel, this);
      this.interacts.set(made.id, made);
      message = { ...message, interact: made };
      if (!interact && this.#states.length) made.restore(this.#states.shift());
    }
    (interact?.output ?? this.output).push(message);
  };

  /** An interact answers. */
  replied(reply) {
    this.#showNewFiles(reply);
    const { status, ename, evalue } = reply.content;
    if (status === "error") this.face.say(`${ename}: ${evalue}`);
  }

  /** Interacts show themselves. */
  special = ({ interact }, output) => {
    if (!interact) return false;
    output.add(interact.element);
    return true;
  };

  async #ask(message) {
    const number = this.#run;
    await this.output.shown();
    if (number !== this.#run || !this.#isRunning) return;
    const { prompt = "", password = false } = message.content;
    this.output.add(this.face.question(prompt, password, (value) => this.#kernel.answer(message, value)));
    this.face.focusQuestion();
  }

  /** Lists the files that a reply tells of. One of a failure tells of none: they are asked for. */
  async #showNewFiles({ content }) {
    const kernel = this.#kernel;
    if (content.status === "error" && !kernel.spec) {
      const request = { code: "", silent: false, store_history: false, user_expressions: FILES };
      ({ content } = await kernel.request("execute_request", request, this.heard));
      if (kernel !== this.#kernel) return;
    }
    const names = (content.payload ?? []).flatMap((one) => one.new_files ?? []);
    if (!names.length) return;
    const place = this.face.newFiles;
    const known = new Set([...place.querySelectorAll("a")].map(({ textContent }) => textContent));
    if (!known.size) place.append("New files: ");
    for (const name of names) {
      if (!known.has(name)) place.append(link(this.#kernel.file(name), name), " ");
    }
  }

  // Files, links, completion ////////////////////////////////////////////////////////////////////

  #addFiles(files) {
    for (const file of files) this.#uploads.set(file.name, { file, kernel: null });
    this.#listFiles();
    this.face.say(`${files.map(({ name }) => name).join(", ")}: there for the next run.`);
  }

  #listFiles() {
    const names = [...this.#uploads.keys()];
    this.face.listUploads(names, (name) => {
      this.#uploads.delete(name);
      this.#listFiles();
    });
  }

  /** Each kernel gets the files once. */
  async #sendFiles(kernel) {
    for (const upload of this.#uploads.values()) {
      if (upload.kernel === kernel) continue;
      await kernel.upload(upload.file);
      upload.kernel = kernel;
    }
  }

  /** Makes links to the cell and shows them. */
  async share() {
    const states = [...this.interacts.values()].map(({ state }) => state);
    try {
      const links = await keep(this.code, this.language, states);
      await showLinks(this.face.root, links);
      this.face.share.focus();
    } catch (error) {
      this.face.tell(error.message);
    }
  }

  async #complete(text, position) {
    try {
      if (!(await agree(this.face.root))) return null;
      const kernel = await this.kernels.get(this, this.language, false);
      const characters = (part) => [...part].length;
      const request = { code: text, cursor_pos: characters(text.slice(0, position)) };
      const { content } = await kernel.request("complete_request", request);
      if (content.status !== "ok") return null;
      const points = [...text];
      const units = (at) => points.slice(0, at).join("").length;
      return { matches: content.matches, start: units(content.cursor_start), end: units(content.cursor_end) };
    } catch (error) {
      this.face.tell(error.message);
      return null;
    }
  }
}
