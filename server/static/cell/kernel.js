// A kernel as cells use it: requests and their answers, its files, its end.

import { Connection } from "./connection.js";
import { Refusal, PAGE_ID, address, ask, forgetTerms, hasAccepted, uuid } from "./server.js";

/** Seconds without messages after which the server may end a kernel that one cell has for itself. */
const OWN_TIMEOUT = "600";
/** The kernels of this page that live. */
const all = new Set();

addEventListener("pagehide", ({ persisted }) => {
  if (!persisted) for (const kernel of all) kernel.end(true);
});

export class Kernel {
  #connection = null;
  #requests = new Map();
  #displays = new Map();

  /** `spec`: the name of a kernelspec, "" for Python. */
  constructor(spec, isShared) {
    this.spec = spec;
    this.isShared = isShared;
    /** starting, idle, busy, lost or dead. */
    this.state = "starting";
    /** Whether any cell ran in it. */
    this.isUsed = false;
    this.lastUsed = performance.now();
    /** Are told of every change: (state, why). */
    this.watchers = new Set();
  }

  /** Gets a kernel from the server. A page that may have no more gives up the one that it needs least. */
  async start() {
    try {
      await this.#make();
    } catch (error) {
      const spare = error.code === "too_many_kernels_for_cell_session" && leastNeeded();
      if (!spare) throw error;
      await spare.end();
      await this.#make();
    }
    all.add(this);
    this.#connection = new Connection(this.id, {
      heard: (message) => this.#hear(message),
      lost: () => this.#become("lost"),
      back: () => this.#isBack(),
      ended: (reason) => this.#die(reason),
    });
    if (this.spec) await this.#check();
    if (this.state === "starting") this.#become("idle");
    return this;
  }

  async #make() {
    const fields = { CellSessionID: PAGE_ID, timeout: this.isShared ? "inf" : OWN_TIMEOUT };
    if (hasAccepted()) fields.accepted_tos = "true";
    if (this.spec) fields.kernel = this.spec;
    let answer;
    try {
      answer = await ask("POST", "kernel", { fields });
    } catch (error) {
      if (error.status === 403) forgetTerms();
      throw error;
    }
    this.id = (await answer.json()).id;
  }

  /** A server that knows no kernelspecs here would give Python, whatever is asked for. */
  async #check() {
    const { content } = await this.request("kernel_info_request", {});
    const told = content.language_info?.name ?? "";
    if (!this.spec.startsWith("python") && told.startsWith("python")) {
      await this.end();
      throw new Refusal(404, `The server has no kernel ${this.spec} for cells.`);
    }
  }

  get isDead() {
    return this.state === "dead";
  }

  /**
   * Sends a request. The promise has the reply when all that belongs to it was said; `heard` gets each message of that
   * kind meanwhile.
   */
  request(type, content, heard = () => {}, channel = "shell") {
    return new Promise((done) => {
      const message = this.#message(channel, type, content);
      if (this.isDead) {
        done(lostReply("the kernel has ended"));
        return;
      }
      this.lastUsed = performance.now();
      this.#requests.set(message.header.msg_id, { heard, done, channel, reply: null, isIdle: channel === "control" });
      this.#connection.send(message);
    });
  }

  /** Interrupts what it is at. */
  interrupt() {
    return this.request("interrupt_request", {}, undefined, "control");
  }

  /** Answers a question of a program. */
  answer(question, value) {
    const message = this.#message("stdin", "input_reply", { value, status: "ok" });
    message.parent_header = question.header;
    this.#connection.send(message);
  }

  /** The URL of one of its files, from a path as the kernel has it. */
  file(path) {
    return address(`kernel/${this.id}/files/${path.split("/").map(encodeURIComponent).join("/")}`).href;
  }

  /** Where its files begin. */
  get files() {
    return address(`kernel/${this.id}/files/`).href;
  }

  /** Puts a file into its folder. */
  upload(file) {
    return ask("PUT", `kernel/${this.id}/files/${encodeURIComponent(file.name)}`, { body: file });
  }

  /** The places that show what has this name, to change them. */
  displays(name) {
    if (!this.#displays.has(name)) this.#displays.set(name, new Set());
    return this.#displays.get(name);
  }

  /** Ends it; `isLast`: the page is left, and waits for nothing. A form may go from any origin. */
  async end(isLast = false) {
    const { id, isDead } = this;
    this.#die("it was ended");
    if (!id || isDead) return;
    const asked = ask("POST", `kernel/${id}`, { fields: { method: "DELETE" }, keepalive: isLast });
    await asked.then((answer) => answer.text()).catch(() => {});
  }

  #message(channel, type, content) {
    const header = {
      msg_id: uuid(), msg_type: type, session: PAGE_ID, username: "", version: "5.4", date: new Date().toISOString(),
    };
    return { channel, header, parent_header: {}, metadata: {}, content, buffers: [] };
  }

  #hear(message) {
    const type = message.msg_type ?? message.header?.msg_type;
    const { content = {} } = message;
    if (type === "status" && message.channel === "iopub") {
      const state = content.execution_state;
      if (state === "dead") {
        this.#die("it ended");
        return;
      }
      if (state === "restarting") this.#become("busy", "The kernel died and begins anew: its variables are gone.");
    }
    const id = message.parent_header?.msg_id;
    const request = this.#requests.get(id);
    if (!request) return;
    if (type === "status") {
      request.isIdle ||= content.execution_state === "idle";
      if (request.channel === "shell" && this.state !== "lost") this.#become(content.execution_state === "busy" ? "busy" : "idle");
    } else if (message.channel === request.channel) {
      request.reply = message;
    } else {
      request.heard({ ...message, type });
    }
    if (request.reply && request.isIdle) this.#finish(id, request.reply);
  }

  #finish(id, reply) {
    const request = this.#requests.get(id);
    this.#requests.delete(id);
    this.lastUsed = performance.now();
    request.done(reply);
  }

  /** What was asked before the line broke has been answered when this is, or never will be. */
  async #isBack() {
    const before = [...this.#requests.keys()];
    this.#become(before.length ? "busy" : "idle", "Connected again.");
    if (!before.length) return;
    await this.request("kernel_info_request", {});
    for (const id of before) {
      if (this.#requests.has(id)) this.#finish(id, lostReply("the connection broke, and what it said meanwhile is lost"));
    }
  }

  #die(reason) {
    if (this.isDead) return;
    all.delete(this);
    this.#connection?.close();
    this.#become("dead", `The kernel has ended (${reason}).`);
    for (const id of [...this.#requests.keys()]) this.#finish(id, lostReply(reason));
    this.#displays.clear();
  }

  #become(state, why = "") {
    if (this.state === state && !why) return;
    this.state = state;
    for (const watcher of [...this.watchers]) watcher(state, why);
  }
}

/** The kernel that no cell waits for and that was used longest ago, of those that cells do not share. */
function leastNeeded() {
  const idle = [...all].filter(({ isShared, state }) => !isShared && state === "idle");
  return idle.sort((a, b) => a.lastUsed - b.lastUsed)[0];
}

/** Stands for a reply that will not come. */
function lostReply(reason) {
  return { content: { status: "lost", evalue: reason, payload: [] } };
}
