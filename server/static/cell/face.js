// What one sees of a cell, besides its code: buttons, states, places for output and files.

let count = 0;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function button(text, className = "", label = "") {
  const made = element("button", { type: "button", className, textContent: text });
  if (label) made.setAttribute("aria-label", label);
  return made;
}

export class Face {
  constructor({ title, languages, language, hide, runText }) {
    const isHidden = (name) => hide.includes(name);
    this.element = element("section", { className: "cell" });
    this.element.setAttribute("aria-label", title);
    this.editor = element("div", { hidden: isHidden("editor") });
    this.run = button(runText, "run primary");
    this.run.hidden = isHidden("evalButton");
    this.stop = button("Stop", "stop");
    this.stop.disabled = true;
    this.stop.hidden = this.run.hidden;
    this.language = element("select");
    this.language.setAttribute("aria-label", "Language");
    this.language.append(...languages.map(({ id, name }) => element("option", { value: id, textContent: name })));
    this.language.value = language;
    this.language.hidden = languages.length < 2 || isHidden("language");
    this.files = element("input", { type: "file", multiple: true, hidden: isHidden("files"), id: `files-${count += 1}` });
    const files = element("label", { className: "file", htmlFor: this.files.id, textContent: "Add files", hidden: this.files.hidden });
    this.share = button("Share");
    this.share.hidden = isHidden("permalink");
    this.state = element("span", { className: "state" });
    this.bar = element("div", { className: "bar" }, this.run, this.stop, this.language, this.files, files, this.share, this.state);
    this.uploads = element("ul", { className: "uploads", hidden: true });
    this.uploads.setAttribute("aria-label", "Files for the next run");
    this.message = element("p", { className: "message", hidden: isHidden("messages") });
    this.message.setAttribute("role", "status");
    this.output = element("div", { className: "output" });
    this.newFiles = element("p", { className: "new-files" });
    this.live = element("p", { className: "unseen" });
    this.live.setAttribute("role", "status");
    this.results = element("div", { className: "results", hidden: isHidden("output") }, this.output, this.newFiles);
    this.results.setAttribute("role", "region");
    this.results.setAttribute("aria-label", `Output of ${title}`);
    this.element.append(this.editor, this.bar, this.uploads, this.message, this.results, this.live);
    this.timer = 0;
  }

  /** Where dialogs are put. */
  get root() {
    return this.element.getRootNode() === document ? document.body : this.element.getRootNode();
  }

  /** Says something to who does not see the page. */
  say(text) {
    this.live.textContent = text;
  }

  /** Says something to everybody; nothing takes it away. */
  tell(text) {
    this.message.textContent = text;
  }

  /** The cell begins. */
  begin() {
    this.run.setAttribute("aria-disabled", "true");
    this.element.dataset.state = "starting";
    this.results.setAttribute("aria-busy", "true");
    this.state.textContent = "";
    this.tell("");
    this.say("");
    // What is quick does not flicker.
    this.timer = setTimeout(() => { this.state.textContent = "Starting …"; }, 300);
  }

  /** The kernel is there and runs it. */
  working() {
    clearTimeout(this.timer);
    this.element.dataset.state = "running";
    this.stop.disabled = false;
    this.timer = setTimeout(() => {
      this.state.textContent = "Running …";
      this.say("Running.");
    }, 300);
  }

  /** The cell ended. `spoken`: what is said instead to who does not see the output. */
  end(text, state, spoken = text) {
    clearTimeout(this.timer);
    const hadFocus = this.stop.getRootNode().activeElement === this.stop;
    this.run.removeAttribute("aria-disabled");
    this.stop.disabled = true;
    if (hadFocus) this.run.focus();
    this.element.dataset.state = state;
    this.results.removeAttribute("aria-busy");
    this.state.textContent = text;
    this.say(spoken.slice(0, 300));
  }

  /** Why a cell could not be run. */
  alert(text) {
    return element("p", { className: "failure", textContent: text });
  }

  /** A question of a program. */
  question(prompt, isPassword, answer) {
    const input = element("input", { type: isPassword ? "password" : "text", autocomplete: "off", spellcheck: false });
    const label = element("label", {}, element("span", { textContent: prompt || "Input" }), input);
    const form = element("form", { className: "question" }, label, button("Send"));
    const send = form.querySelector("button");
    send.type = "submit";
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const shown = isPassword ? "…" : input.value;
      form.replaceWith(element("pre", { className: "stream answered", textContent: `${prompt}${shown}` }));
      answer(input.value);
    });
    return form;
  }

  focusQuestion() {
    const input = this.output.querySelector(".question input");
    const focused = this.element.getRootNode().activeElement;
    // Who has gone on to something else is not called back.
    if (!focused || focused === document.body || this.element.contains(focused)) input?.focus();
    else this.say("The program waits for input.");
  }

  /** Nobody waits for answers any more. */
  removeQuestions() {
    for (const form of this.output.querySelectorAll(".question")) form.remove();
  }

  /** Lists files that go into the next run. */
  listUploads(names, remove) {
    this.uploads.hidden = names.length === 0;
    this.uploads.replaceChildren(...names.map((name) => {
      const away = button("×", "small", `Remove ${name}`);
      away.addEventListener("click", () => {
        remove(name);
        this.files.focus();
      });
      return element("li", {}, element("span", { textContent: name }), away);
    }));
  }
}
