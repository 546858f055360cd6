// A WebSocket to a kernel that comes back when it breaks, and goes on where it was.

import { Refusal, ask, socketAddress, uuid } from "./server.js";

/** Milliseconds between attempts to come back: the first, and the longest. */
const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 5_000;
/** Milliseconds after which nobody waits any more. */
const PATIENCE = 10 * 60_000;
/** The code of a close frame when the kernel has ended. */
const ENDED = 1001;

export class Connection {
  #socket = null;
  #waiting = [];
  #offset = 0;
  #name = uuid();
  #lostAt = null;
  #pause = FIRST_PAUSE;
  #timer = 0;
  #isClosed = false;
  #wasOpen = false;

  /**
   * `heard(message)`, `lost()`, `back()` when it is there again after that, `ended(reason)` when the kernel is not there
   * any more.
   */
  constructor(kernelId, handlers) {
    this.kernelId = kernelId;
    this.handlers = handlers;
    this.online = () => { if (this.#lostAt !== null) this.#open(); };
    addEventListener("online", this.online);
    this.#open();
  }

  /** Sends a message, as soon as there is a connection. */
  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
    else if (!this.#isClosed) this.#waiting.push(message);
  }

  /** Ends it for good. */
  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    removeEventListener("online", this.online);
    this.#socket?.close();
  }

  #open() {
    clearTimeout(this.#timer);
    if (this.#isClosed || this.#socket) return;
    const url = socketAddress(`kernel/${this.kernelId}/channels`);
    url.searchParams.set("session_id", this.#name);
    url.searchParams.set("offset", this.#offset);
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.addEventListener("open", () => this.#opened(socket));
    socket.addEventListener("message", ({ data }) => this.#hear(data));
    socket.addEventListener("close", ({ code, reason }) => this.#broke(code, reason));
  }

  #opened(socket) {
    const isBack = this.#wasOpen;
    this.#wasOpen = true;
    this.#lostAt = null;
    this.#pause = FIRST_PAUSE;
    for (const message of this.#waiting.splice(0)) socket.send(JSON.stringify(message));
    if (isBack) this.handlers.back();
  }

  #hear(text) {
    if (this.#isClosed) return;
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    if (Number.isFinite(message.metadata?.offset)) this.#offset = message.metadata.offset;
    this.handlers.heard(message);
  }

  async #broke(code, reason) {
    this.#socket = null;
    if (this.#isClosed) return;
    if (code === ENDED && reason) {
      this.#end(reason);
      return;
    }
    if (this.#lostAt === null) {
      this.#lostAt = performance.now();
      this.handlers.lost();
    }
    // The browser does not say why a connection was refused.
    const isThere = await ask("GET", `kernel/${this.kernelId}/files`).then(() => true, (error) => error);
    if (this.#isClosed) return;
    if (isThere instanceof Refusal && isThere.status === 404) this.#end("it is not there any more");
    else if (performance.now() - this.#lostAt > PATIENCE) this.#end("the server cannot be reached");
    else {
      this.#timer = setTimeout(() => this.#open(), this.#pause * (0.75 + Math.random() / 2));
      this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
    }
  }

  #end(reason) {
    this.close();
    this.handlers.ended(reason);
  }
}
